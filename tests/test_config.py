"""Settings, overrides and their errors."""

from __future__ import annotations

import json

import pytest

from avatar_kit.config import PRESETS, Config, FieldConfig, override, settings, stage_from_dict, to_dict


def test_overrides_replace_only_what_they_name() -> None:
    changed = override(PRESETS["fast"], ["fit.steps=7", "field.levels=4", "prior.distances=false", "prior.epochs=1,2,3"])
    assert changed.fit.steps == 7
    assert changed.field.levels == (4,)
    assert changed.prior.distances is False
    assert changed.prior.epochs == (1, 2, 3)
    assert override(changed, ["fit.steps=" + str(PRESETS["fast"].fit.steps)]).rays == PRESETS["fast"].rays


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit.step=7", r"Did you mean fit\.steps"),
        ("steps=7", "unknown setting"),
        ("fit.steps", "STAGE.FIELD=VALUE"),
        ("fit.steps=many", "'many' is no whole number from 0 on"),
        ("fit.steps=-5", "'-5' is no whole number from 0 on"),
        ("fit.color_weight=nan", "'nan' is no number from 0 on"),
        ("foo.bar=1", r"There are .*fit\.\*"),
        ("fit.qqqqq=1", r"There are fit\.steps"),
        ("prior.distances=perhaps", "not a value of type bool"),
        ("prior.epochs=1,2", "not a value"),
    ],
)
def test_wrong_overrides_say_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), [text])


def test_stages_have_at_most_a_dozen_fields() -> None:
    counts: dict[str, int] = {}
    for name in settings():
        stage = name.split(".")[0]
        counts[stage] = counts.get(stage, 0) + 1
    assert max(counts.values()) <= 14


def test_settings_survive_json() -> None:
    stored = json.loads(json.dumps(to_dict(PRESETS["paper"])))
    assert stage_from_dict(FieldConfig, stored["field"]) == PRESETS["paper"].field
