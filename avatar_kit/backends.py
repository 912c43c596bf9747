"""The only file that knows which optional libraries exist: one table, one `pick`.

Warp (and SciPy) do everything everywhere. Kaolin and nvdiffrast, where they are installed and the device allows, are
faster at what they are listed for. Neither is on the package index (`pip install kaolin` gets a placeholder that raises
on import), so a probe imports a real attribute of the real library.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from dataclasses import dataclass


class BackendMissing(Exception):
    """No backend can do what was asked: the message says why each one cannot, and what to do."""


@dataclass(frozen=True)
class Backend:
    """One way to do an operation.

    Attributes:
        probe: module and attribute whose import proves that the library is really there.
        devices: on which it works.
        asked_only: those of them on which it serves only when it is asked for, since another is faster there.
    """

    name: str
    probe: tuple[str, str]
    devices: tuple[str, ...]
    licence: str
    install: str
    asked_only: tuple[str, ...] = ()


_WARP = Backend("warp", ("warp", "launch"), ("cpu", "cuda"), "Apache-2.0", "pip install warp-lang")
_KAOLIN_PAGE = "see NVIDIA Kaolin's own install page"
_NVDIFFRAST_PAGE = "see nvdiffrast's own install page"

# per operation, the preferred backend first
TABLE: dict[str, tuple[Backend, ...]] = {
    "extract": (
        Backend("kaolin", ("kaolin.ops.conversions", "FlexiCubes"), ("cpu", "cuda"), "Apache-2.0", _KAOLIN_PAGE, asked_only=("cpu",)),
        _WARP,
    ),
    "chamfer": (
        Backend("kaolin", ("kaolin.metrics.pointcloud", "sided_distance"), ("cuda",), "Apache-2.0", _KAOLIN_PAGE),
        Backend("scipy", ("scipy.spatial", "KDTree"), ("cpu", "cuda"), "BSD-3-Clause", "pip install scipy"),
    ),
    "render": (
        Backend("nvdiffrast", ("nvdiffrast.torch", "rasterize"), ("cuda",), "non-commercial (NVIDIA)", _NVDIFFRAST_PAGE),
        _WARP,
    ),
    "query": (_WARP,),
    "usd": (Backend("usd-core", ("pxr.Usd", "Stage"), ("cpu", "cuda"), "Apache-2.0 (modified)", "pip install usd-core"),),
    "heic": (Backend("pillow-heif", ("pillow_heif", "register_heif_opener"), ("cpu", "cuda"), "BSD-3-Clause", "pip install pillow-heif"),),
    "onnx": (Backend("onnxruntime", ("onnxruntime", "InferenceSession"), ("cpu", "cuda"), "MIT", "pip install onnxruntime"),),
}

_WORDS = {
    "extract": "extract meshes", "chamfer": "measure distances", "render": "draw meshes", "query": "query grids",
    "usd": "write USD files", "heic": "read HEIC photos", "onnx": "run ONNX networks",
}  # fmt: skip


@functools.cache
def why_not(module: str, attribute: str) -> str | None:
    """None when `module.attribute` can be imported, else the reason in words; asked once a process."""
    if module.split(".")[0] == "kaolin":  # which imports torchvision
        from avatar_kit.torchvision_import import declare_missing_operators

        declare_missing_operators()
    try:
        with warnings.catch_warnings():  # what a library warns of while it is imported is not for our users
            warnings.simplefilter("ignore")
            getattr(importlib.import_module(module), attribute)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return None


def obstacle(backend: Backend, device: str) -> str | None:
    """None when `backend` can serve `device` ("cpu" or "cuda") now, else the reason in words."""
    if device not in backend.devices:
        return f"works on {' and '.join(backend.devices)} only"
    reason = why_not(*backend.probe)
    return None if reason is None else f"not usable ({reason}); {backend.install}"


def pick(operation: str, device: str = "cpu", asked: str | None = None) -> str:
    """Name of the backend for `operation` ("extract", "chamfer", "render", "query", "usd", "heic", "onnx") on `device`.

    Args:
        asked: force this one. Without, the first that works and is not for requests only.

    Raises:
        BackendMissing: none can, or the one asked for cannot.
    """
    candidates = [b for b in TABLE[operation] if asked in (None, b.name)]
    if not candidates:
        known = ", ".join(b.name for b in TABLE[operation])
        raise BackendMissing(f"--backend {asked}: cannot {_WORDS[operation]}. Backends that can: {known}.")
    reasons = []
    for backend in candidates:
        if asked is None and device in backend.asked_only:
            continue
        reason = obstacle(backend, device)
        if reason is None:
            return backend.name
        reasons.append(f"{backend.name}: {reason}")
    raise BackendMissing(f"nothing that is installed can {_WORDS[operation]} on {device}. " + "; ".join(reasons) + ".")


def pick_device(asked: str) -> str:
    """ "cpu" or "cuda" for --device auto, cpu or cuda.

    Raises:
        BackendMissing: CUDA was asked for and is not usable.
    """
    import torch

    usable = asked != "cpu" and torch.cuda.is_available()
    if usable:
        from avatar_kit.kernels.runtime import has_cuda

        usable = has_cuda()
    if asked == "cuda" and not usable:
        build = (
            "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device, or no driver that torch and Warp can use"
        )
        raise BackendMissing(f"--device cuda: {build}. Use --device cpu, or install a CUDA build of torch.")
    return "cuda" if usable and asked in ("auto", "cuda") else "cpu"
