"""`avatar-kit doctor`."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Versions, devices, and per operation which backend serves and why the others do not."""
    import torch

    from avatar_kit.backends import TABLE, obstacle, pick
    from avatar_kit.normals.storage import load_normals
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.recon.pipeline import versions

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {
        "versions": versions(),
        "device": device,
        "backends": {
            operation: {b.name: obstacle(b, device) or ("used" if pick(operation, device) == b.name else "usable") for b in backends}
            for operation, backends in TABLE.items()
        },
        "licences": {b.name: b.licence for backends in TABLE.values() for b in backends},
        "prior": load_prior().card.get("scores", {}),
        "normals": load_normals()[1].get("scores", {}),
    }
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo("versions  " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    click.echo(f"device    {device}")
    for operation, states in found["backends"].items():
        for name, state in states.items():
            click.echo(f"{operation:<9} {name:<11} {state}")
    click.echo("licences  " + ", ".join(f"{name}: {licence}" for name, licence in found["licences"].items()))
    for weights in ("prior", "normals"):
        click.echo(f"{weights:<9} " + ", ".join(f"{name} {value}" for name, value in found[weights].items()))
