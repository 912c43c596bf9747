"""Photos in, head out. Runs on the bundled scene; give your own folder as the first argument."""

import sys
from importlib import resources

import avatar_kit as ak

given = [argument for argument in sys.argv[1:] if argument != "--quick"]
folder = given[0] if given else resources.files("avatar_kit") / "weights" / "demo"
quick = ["fit.steps=40", "mesh.resolution=128"] if "--quick" in sys.argv else []

scene = ak.load_scene(str(folder), views=3)
result = ak.reconstruct(scene, config=ak.override(ak.PRESETS["fast"], quick))
print(result.mesh)  # the scene's world and unit
print({stage: round(seconds, 1) for stage, seconds in result.seconds.items()})
