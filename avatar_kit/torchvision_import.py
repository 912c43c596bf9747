"""Makes `import torchvision` work on the CPU build of torch with PyPI's build of torchvision.

That pair cannot load torchvision's compiled operators, and the import dies with "operator torchvision::nms does not
exist", because torchvision registers shape functions for two of them. Declaring the schemas is enough; nothing here
calls them.
"""

from __future__ import annotations

import contextlib
from importlib import util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a Library takes its schemas with it when it is collected


def declare_missing_operators() -> None:
    """Declare the schemas that torchvision lacks; do nothing where it has them. Call before importing torchvision."""
    if _declared:
        return
    spec = util.find_spec("torchvision")
    for compiled in Path(spec.origin).parent.glob("_C*") if spec and spec.origin else ():
        with contextlib.suppress(OSError, RuntimeError):  # built against another torch: what this module is for
            torch.ops.load_library(str(compiled))
    missing = [schema for name, schema in _SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _declared.append(library)
