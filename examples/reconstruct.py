"""Photos in, head out, in six lines. Runs on the bundled scene; give your own folder as the first argument."""

import sys
from importlib import resources

import avatar_kit as ak

folder = sys.argv[1] if len(sys.argv) > 1 else resources.files("avatar_kit") / "weights" / "demo"
quick = ["fit.steps=40", "mesh.resolution=128"] if "--quick" in sys.argv else []

scene = ak.load_scene(str(folder), views=3)
result = ak.reconstruct(scene, config=ak.override(ak.PRESETS["fast"], quick))
print(result.mesh)  # world frame and unit
print({stage: round(seconds, 1) for stage, seconds in result.seconds.items()})
