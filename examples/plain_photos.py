"""Photos without cameras or masks: what is understood of them, and the head. Give a folder, or a photo, as the first argument."""

import sys
from importlib import resources

import avatar_kit as ak

given = [argument for argument in sys.argv[1:] if argument != "--quick"]
folder = given[0] if given else resources.files("avatar_kit") / "weights" / "demo" / "image"
quick = ["fit.steps=20", "mesh.resolution=96", "texture.size=128"] if "--quick" in sys.argv else []

plain = ak.scene_from_photos(str(folder), views=None if given else 3)
for photo in plain.understood:
    print(
        f"{photo.name}: yaw {photo.yaw_deg:+.0f}, pitch {photo.pitch_deg:+.0f} degrees, {photo.distance_mm / 10:.0f} cm away", *photo.notes
    )
config = ak.override(ak.PLAIN_PRESETS["fast"], quick)  # cameras are estimates: these settings let them move
result = ak.reconstruct(plain.scene, config=config)
print(result.avatar)  # textured, head frame, millimetres
