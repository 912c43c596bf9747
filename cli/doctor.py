"""`avatar-kit doctor`."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--self-test/--no-self-test", default=True, show_default=True, help="Reconstruct the bundled head in a few steps.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def doctor(as_json: bool, self_test: bool, device: str) -> None:
    """Versions, devices, per operation which backend serves and why the others do not, weights, licences, and a self-test.

    The self-test compiles and caches all kernels that a reconstruction needs, so the next one starts warm. Exit code 1
    where it fails.
    """
    import dataclasses

    from avatar_kit.backends import TABLE, pick_device
    from avatar_kit.recon.pipeline import versions

    device = pick_device(device)
    found: dict[str, Any] = {
        "versions": versions(),
        "device": device,
        "hardware": _hardware(),
        "kernel_cache": _kernel_cache(),
        "backends": {operation: {b.name: _state(operation, b, device) for b in backends} for operation, backends in TABLE.items()},
        "licences": {b.name: b.licence for backends in TABLE.values() for b in backends},
        "weights": _weights(),
    }
    if self_test:
        from avatar_kit.score.self_test import self_test as run

        found["self_test"] = dataclasses.asdict(run(device))
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _print(found)
    if self_test and not found["self_test"]["passed"]:
        test = found["self_test"]
        raise click.ClickException(
            f"the self-test reconstructed the bundled face to {test['face_mm']} mm where {test['expected_mm']} are expected. "
            "Reinstall the pinned versions (`make demo` in a fresh clone does); if it stays, report it with `doctor --json`."
        )


def _state(operation: str, backend: Any, device: str) -> str:
    """One backend's part in one operation, in words."""
    from avatar_kit.backends import BackendMissing, obstacle, pick

    reason = obstacle(backend, device)
    if reason is not None:
        return reason
    try:
        used = pick(operation, device) == backend.name
    except BackendMissing:
        used = False
    return "used" if used else "usable: --backend " + backend.name


def _hardware() -> dict[str, Any]:
    import os
    import platform

    import torch

    found: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    elif torch.version.cuda is None:
        found["gpu"] = "none: this torch is built without CUDA"
    else:
        found["gpu"] = f"none: torch is built for CUDA {torch.version.cuda}, but no device or driver was found"
    return found


def _kernel_cache() -> str:
    import warp

    from avatar_kit.kernels import runtime  # noqa: F401  (sets Warp up)

    return str(warp.config.kernel_cache_dir)


def _weights() -> dict[str, Any]:
    """The shipped weights: megabytes, licences and scores, from their cards."""
    from importlib import resources

    from avatar_kit.normals.storage import load_normals
    from avatar_kit.prior.storage import load_prior

    folder = resources.files("avatar_kit") / "weights"
    cards = {"prior": load_prior().card, "normals": load_normals()[1]}
    return {
        name: {
            "megabytes": round(len((folder / f"{name}.safetensors").read_bytes()) / 1e6, 1),
            "licences": card.get("licences", []),
            "scores": card.get("scores", {}),
        }
        for name, card in cards.items()
    }


def _print(found: dict[str, Any]) -> None:
    def line(head: str, text: str) -> None:
        click.echo(f"{head:<13} {text}")

    line("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    line("device", found["device"])
    for name, value in found["hardware"].items():
        line(name, str(value))
    line("kernel cache", found["kernel_cache"])
    for operation, states in found["backends"].items():
        for name, state in states.items():
            line(operation, f"{name:<12}{state}")
    line("licences", ", ".join(f"{name}: {licence}" for name, licence in found["licences"].items()))
    for name, weights in found["weights"].items():
        line(name, f"{weights['megabytes']} MB; " + ", ".join(f"{score} {value}" for score, value in weights["scores"].items()))
        line("", "; ".join(weights["licences"]))
    if "self_test" in found:
        test = found["self_test"]
        stages = ", ".join(f"{name} {value:.1f}" for name, value in test["seconds"].items())
        verdict = "passed" if test["passed"] else "FAILED"
        line("self-test", f"{verdict}: face {test['face_mm']:.2f} mm, expected {test['expected_mm']:.2f}; seconds: {stages}")
