"""From one to a handful of photos to a full 3D head: a head prior on feature grids, fitted by surface rendering.

The names below are loaded on first use, so that ``import avatar_kit`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "reconstruct": "avatar_kit.recon.pipeline",
    "load_prior": "avatar_kit.prior.storage",
    "load_scene": "avatar_kit.scene.views",
    "scene_from_photos": "avatar_kit.photos.scene",
    "Config": "avatar_kit.config",
    "PRESETS": "avatar_kit.config",
    "PLAIN_PRESETS": "avatar_kit.config",
    "override": "avatar_kit.config",
    "Mesh": "avatar_kit.types",
    "Scene": "avatar_kit.types",
    "Photo": "avatar_kit.types",
    "Camera": "avatar_kit.types",
    "InputError": "avatar_kit.types",
}
__all__ = [
    "PLAIN_PRESETS", "PRESETS", "Camera", "Config", "InputError", "Mesh", "Photo", "Scene", "load_prior", "load_scene", "override",
    "reconstruct", "scene_from_photos",
]  # fmt: skip

if TYPE_CHECKING:
    from avatar_kit.config import PLAIN_PRESETS, PRESETS, Config, override
    from avatar_kit.photos.scene import scene_from_photos
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.recon.pipeline import reconstruct
    from avatar_kit.scene.views import load_scene
    from avatar_kit.types import Camera, InputError, Mesh, Photo, Scene


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'avatar_kit' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
