"""The paper's tables 1 and 2: what each part of the method is worth, found by leaving it out.

A row is a way to train the prior and a way to fit. All priors of a comparison must come from the same heads, epochs and
seed; `benchmarks/ablation_priors.py` trains them, and each is an ordinary `avatar-kit prior train` with the row's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avatar_kit.config import WITHOUT_PRIOR, Config, override
from avatar_kit.prior.storage import HeadPrior, load_prior, untrained_prior
from avatar_kit.score.datasets import Subject
from avatar_kit.score.evaluate import SubjectScorer
from avatar_kit.score.tables import Result, run

_FREE = ("fit.free_decoder_at=0.3",)  # without grids the decoder has to take up what the latent cannot hold; share as in section 3.3

# without what it does not have
_PAPERS_OWN = ("patches.weight=0", "spots.weight=0", "beside.least=0", "mesh.relief=0", "mesh.outline_margin=0")


class Variant(NamedTuple):
    """A row.

    Attributes:
        name: as the paper has it.
        prior: stem of the prior's file; "none" for an untrained field.
        training: settings of `prior train` that differ, STAGE.FIELD=VALUE.
        fitting: settings of the fit that differ.
        normals: whether normal maps are used.
        reported: the paper's face errors in mm, on H3DS, one per number of views; none where the paper has no such row.
        beyond: with what the paper does not have: patches and spots between photos, relief from normals, cuts along outlines.
    """

    name: str
    prior: str
    training: tuple[str, ...]
    fitting: tuple[str, ...]
    normals: bool
    reported: tuple[float, ...]
    beyond: bool = False

    @property
    def place(self) -> str:
        """Name of the row's folder."""
        return self.prior + ("" if self.normals else "_without_normals") + ("_beyond" if self.beyond else "")

    def fit_config(self, base: Config) -> Config:
        """The settings of the row's fits."""
        return override(base, self.fitting if self.beyond else (*_PAPERS_OWN, *self.fitting))


class Ablation(NamedTuple):
    """A table: numbers of views, and rows."""

    title: str
    views: tuple[int, ...]
    variants: tuple[Variant, ...]


_OURS = Variant("Ours", "ours", (), (), True, (1.50, 1.39, 1.22))
ABLATIONS = {
    "1": Ablation(
        "Table 1: ingredients",
        (3, 6),
        (
            Variant("Ours w/o shape prior", "none", (), WITHOUT_PRIOR, True, (6.98, 20.72)),
            Variant("Ours w/o normals", "ours", (), (), False, (1.59, 1.44)),
            Variant("Ours w/o grid (3 layers)", "no_grid_3", ("field.levels=",), _FREE, True, (1.55, 1.38)),
            Variant("Ours w/o grid (8 layers)", "no_grid_8", ("field.levels=", "field.layers=8"), _FREE, True, (1.46, 1.34)),
            Variant("Ours w/ single grid", "single_grid", ("field.levels=4",), (), True, (1.39, 1.27)),
            _OURS._replace(reported=_OURS.reported[1:]),
            Variant("... and ties between photos, w/o normals", "ours", (), (), False, (), beyond=True),
            Variant("... and ties between photos and relief", "ours", (), (), True, (), beyond=True),
        ),
    ),
    "2": Ablation(
        "Table 2: schedules of the prior's training",
        (1, 3, 6),
        (
            Variant("(A) w/o progressive PE masking", "no_masking", ("prior.mask_epochs=0",), (), True, (1.77, 1.48, 1.33)),
            Variant("(B) w/o progressive LODs schedule", "all_levels", ("prior.epochs=0,0,ALL",), (), True, (1.70, 1.54, 1.35)),
            _OURS._replace(name="(C) Ours"),
        ),
    ),
}
"""By the table's number in the paper. ALL stands for the epochs of all three stages together."""


def training_config(variant: Variant, base: Config) -> Config:
    """The settings with which a row's prior is trained; `base` are those of "ours"."""
    return override(base, [text.replace("ALL", str(sum(base.prior.epochs))) for text in variant.training])


def load_variant_prior(variant: Variant, folder: Path, config: Config, *, device: str, seed: int) -> HeadPrior:
    """A row's prior, from `folder`.

    Raises:
        InputError: it is not there.
    """
    if variant.prior == "none":
        return untrained_prior(config.field, seed=seed, device=device)
    settings = "".join(f" --set {text}" for text in variant.training)
    hint = f"the prior of '{variant.name}' is missing: train it by `avatar-kit prior train{settings} --out ...` on the heads of the others"
    return load_prior(folder / f"{variant.prior}.safetensors", device, missing=hint)


def run_ablation(
    table: str, subjects: Sequence[Subject], priors: Path, out: Path, config: Config, *, seeds: Sequence[int], device: str,
    normal_net: str | None = "default", log: Callable[[str], None] = lambda message: None,
) -> dict[str, list[Result]]:  # fmt: skip
    """Fit all rows of a table to all subjects, into a folder of `out` for each; what is there already, of the same priors and
    settings, stays.

    Args:
        priors: folder with the rows' priors.
        config: of the fit, before a row's own settings.
        seeds: of the fit.
        normal_net: for photos without normal maps.

    Returns:
        results by the row's name.
    """
    ablation = ABLATIONS[table]
    found = {variant: load_variant_prior(variant, priors, config, device=device, seed=0) for variant in ablation.variants}
    results: dict[str, list[Result]] = {}
    for seed in seeds:  # the outer loop: a run that is stopped has every row with the first seeds
        for variant, prior in found.items():
            scorer = SubjectScorer(
                prior, config=variant.fit_config(config), device=device, seed=seed,
                normal_net=normal_net if variant.normals else None, drop_normals=not variant.normals,
            )  # fmt: skip
            log(f"{variant.name}, seed {seed}")
            rows = run(subjects, ablation.views, out / variant.place, scorer, settings=scorer.fingerprint, seed=seed, log=log)
            results.setdefault(variant.name, []).extend(rows)
    return results


def ablation_table(table: str, results: dict[str, list[Result]]) -> str:
    """Markdown in the paper's layout: face errors by the h3ds protocol, their means and what seeds change, beside the paper's."""
    ablation = ABLATIONS[table]
    names = [f"{views} view{'s' if views > 1 else ''}" for views in ablation.views]
    lines = [
        f"# {ablation.title}", "",
        "Face error in mm by the h3ds protocol: mean over subjects and seeds, ± the standard deviation over seeds of the mean over "
        "subjects (n - 1). In brackets what the paper reports, on H3DS: other data.", "",
        "| | " + " | ".join(names) + " | subjects | seeds |", "| --- " * (len(names) + 3) + "|",
    ]  # fmt: skip
    for variant in ablation.variants:
        rows = results[variant.name]
        reported = [f" ({value:.2f})" for value in variant.reported] or [""] * len(ablation.views)
        cells = [_mean_and_spread(rows, views) + paper for views, paper in zip(ablation.views, reported, strict=True)]
        subjects, seeds = ({row[key] for row in rows} for key in ("subject", "seed"))
        lines.append(f"| {variant.name} | " + " | ".join(cells) + f" | {len(subjects)} | {len(seeds)} |")
    failed = [(name, row) for name, rows in results.items() for row in rows if "error" in row]
    lines += ["", f"Not reconstructed: {len(failed)}."]
    lines += [f"- {name}, {row['subject']}, {row['views']} views, seed {row['seed']}: {row['error']}" for name, row in failed]
    return "\n".join(lines) + "\n"


def _mean_and_spread(rows: Sequence[Result], views: int) -> str:
    """Over the subjects that every seed reconstructed."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["views"] == views:
            of_seed = by_seed.setdefault(row["seed"], {})
            if "error" not in row:
                of_seed[row["subject"]] = row["scores"]["ours"]["h3ds"]["face_mm"]
    everywhere = set.intersection(*map(set, by_seed.values())) if by_seed else set()
    if not everywhere:
        return "-"
    means = [np.mean([found[name] for name in everywhere]) for found in by_seed.values()]
    spread = f" ± {np.std(means, ddof=1):.2f}" if len(means) > 1 else ""
    return f"{np.mean(means):.2f}{spread}"
