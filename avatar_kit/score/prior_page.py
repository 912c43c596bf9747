"""A prior on one page: what it was made from, random heads of it, the way between two, how it was trained and how good it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avatar_kit.mesh.gallery import between, heads, random_latents
from avatar_kit.prior.history import history_figure
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.render.picture import png
from avatar_kit.render.sheet import contact_sheet
from avatar_kit.score.page import Page
from avatar_kit.score.plots import svg

_ON_THE_WAY = 7
_SCORES = {
    "training_heads_mm": "training heads, their own latents",
    "held_out_mean_head_mm": "heads it never saw: the mean head",
    "held_out_latent_mm": "heads it never saw: latent alone",
    "held_out_latent_and_grids_mm": "heads it never saw: latent and grids",
}


def prior_page(
    prior: HeadPrior, *, name: str, count: int = 9, resolution: int = 128, seed: int = 0, history: Sequence[Mapping[str, Any]] = ()
) -> str:
    """One HTML file about `prior`, for which nothing is fetched.

    Args:
        name: of the prior, for the title.
        count: random heads.
        resolution: of their meshes, cells along each side of the box.
        history: of `prior.history.read_history`.
    """
    card = prior.card
    page = Page(f"Head prior: {name}", lead=_lead(prior))
    scores = card.get("scores", {})
    rows = [[title, f"{scores[key]:.2f}"] for key, title in _SCORES.items() if key in scores]
    if rows:
        page.tables.append((f"Mean distance from the true to the modelled surface, {_held_out(card)}", ["", "mm"], rows))
    sources = [[source["source"], source["count"]] for source in card.get("heads", [])]
    if sources:
        page.tables.append(("Heads it was trained on", ["source", "count"], sources))
    if card.get("licences"):
        page.tables.append(("Licences", ["of the data"], [[licence] for licence in card["licences"]]))

    latents = random_latents(prior, max(count, 2), torch.Generator().manual_seed(seed))
    drawn = heads(prior, latents, resolution=resolution)
    caption = (
        f"{len(drawn)} random heads, seed {seed}: the Gaussian of the training heads' latents. From the front, half left, left and behind."
    )
    page.pictures.append(("Random heads", caption, png(contact_sheet(drawn, tile=120))))
    way = heads(prior, between(latents[0], latents[1], _ON_THE_WAY), resolution=resolution)
    strip = contact_sheet(way, per_row=_ON_THE_WAY, yaws_deg=(20,))
    page.pictures.append(("Interpolation", "From the first to the second of them, on a straight line between their latents.", png(strip)))
    if history:
        last = history[-1]
        caption = f"{last['epoch']} epochs, {last['seconds'] / 60:.1f} minutes of training."
        page.plots.append(("Learning curves", caption, svg(history_figure(history))))
    settings = {"field": dataclasses.asdict(prior.field.config), **card}
    page.details.append(("Card", json.dumps(settings, indent=1)))
    return page.html()


def _held_out(card: Mapping[str, Any]) -> str:
    count = card["scores"].get("held_out_heads")
    if not count:
        return "no heads were held out"
    sources = ", ".join(f"{each['count']} {each['source']}" for each in card.get("held_out", []))  # older cards do not say
    return f"{count} held-out heads" + (f" ({sources})" if sources else "")


def _lead(prior: HeadPrior) -> list[str]:
    card, config = prior.card, prior.field.config
    lead = [
        f"{len(prior.latents)} heads, a latent of {config.latent} numbers, feature grids of levels "
        f"{', '.join(map(str, config.levels)) or 'none'}, a decoder of {config.layers} x {config.width} neurons."
    ]
    if "training_seconds" in card:
        epochs = f"{card['epochs']} epochs in " if "epochs" in card else ""
        lead.append(f"Trained for {epochs}{card['training_seconds'] / 3600:.1f} hours on {card.get('machine', 'an unnamed machine')}.")
    if "command" in card:
        lead.append(f"Command: {card['command']}")
    if "history" in card:
        lead.append(str(card["history"]))
    return lead
