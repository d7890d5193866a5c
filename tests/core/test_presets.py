"""Presets: each parses, says what it is for, and keeps its promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab import config, presets
from ftlab.errors import ConfigError


def test_every_file_is_listed() -> None:
    folder = Path(presets.__file__).parent
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(presets.names())
    assert len(presets.names()) == 6


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_parses_and_has_a_description(name: str) -> None:
    parsed = config.from_mapping(presets.mapping(name))
    assert parsed.model.name
    assert presets.description(name).endswith(".")


def test_presets_do_what_their_names_say() -> None:
    assert config.parse(presets.text("dpo")).method.kind == "dpo"
    assert config.parse(presets.text("qlora")).model.precision == "nf4"
    assert config.parse(presets.text("full")).adapter.kind == "none"
    assert (config.parse(presets.text("quick")).train.max_steps or 0) <= 100


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean qlora"):
        presets.text("qlra")
    with pytest.raises(ConfigError, match="presets are quick, standard"):
        presets.text("zzz")
