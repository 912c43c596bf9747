"""Heads to train on and heads to score with: none is in both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from avatar_kit.heads.folder import FolderHeads
from avatar_kit.heads.sampler import open_source
from avatar_kit.prior.samples import HeadRequest

_SHARE = 30  # one head in so many is held out
_OTHER_SEED = 1000  # further than there are sources: seeds count up from source to source


def split_requests(requests: Sequence[HeadRequest], count: int | None = None) -> tuple[list[HeadRequest], list[HeadRequest]]:
    """Requests of the heads to train on, and of those that are held out.

    A model makes other heads with another seed. A folder has no others: some of its scans are taken from the training, the same
    ones whenever they are asked for.

    Args:
        requests: of the training.
        count: heads of each source to hold out; by default a thirtieth of those to train on, of a folder a thirtieth of its scans.

    Raises:
        InputError: a source cannot be opened.
    """
    training, held_out = [], []
    for request in requests:
        if not request.source.startswith("folder:"):
            training.append(request)
            held_out.append(replace(request, count=count or max(1, request.count // _SHARE), seed=request.seed + _OTHER_SEED))
            continue
        names = _scans_to_hold_out(request.source, count)
        training.append(replace(request, without=names))
        if names:
            held_out.append(replace(request, count=len(names), seed=request.seed + _OTHER_SEED, scans=names))
    return training, held_out


def _scans_to_hold_out(source: str, count: int | None) -> tuple[str, ...]:
    scans = open_source(source)
    assert isinstance(scans, FolderHeads)
    wanted = count or max(1, len(scans) // _SHARE)  # of the scans, not of the draws: the same where a folder is named twice
    names = scans.hold_out(wanted) if 2 * wanted <= len(scans) else ()
    if not names:
        advice = f"Give --held-out {len(scans) // 2} or less, or more scans." if len(scans) > 3 else "Give more scans."
        warnings.warn(
            f"{source}: {wanted} of its {len(scans)} scans cannot be held out, at most half can. All are trained on, and it gets no "
            f"held-out score. {advice}",
            stacklevel=3,
        )
    return names
