"""The config being made."""

from __future__ import annotations

from ftlab import config, presets
from ftlab_tui.new.draft import Draft


def taken(name: str = "standard") -> Draft:
    draft = Draft()
    draft.take(presets.mapping(name), name)
    return draft


def test_the_yaml_is_what_ftrun_reads() -> None:
    for name in presets.names():
        draft = taken(name)
        made, problems = draft.read()
        assert not problems
        assert config.parse(draft.yaml()) == made


def test_model_and_data_stay_with_another_preset() -> None:
    draft = taken()
    draft.set("model.name", "org/mine")
    draft.set("data.source", "mine.jsonl")
    draft.take(presets.mapping("careful"), "careful")
    assert (draft.get("model.name"), draft.get("data.source")) == ("org/mine", "mine.jsonl")
    assert draft.get("adapter.r") == 32
    assert draft.difference() == []


def test_what_is_typed_is_checked_as_a_file_is() -> None:
    draft = taken()
    draft.type("optim.learning_rate", "2e-4")
    assert draft.get("optim.learning_rate") == 2e-4
    draft.type("train.epochs", "many")
    assert "above 0" in draft.read()[1]["train.epochs"].message
    assert draft.read()[0] is None
    draft.type("train.epochs", "")
    assert not draft.has("train.epochs")
    draft.type("launch.devices", "[0")
    assert "launch.devices" in draft.wrong


def test_settings_without_effect_are_forgotten() -> None:
    draft = taken()
    draft.type("adapter.kind", "none")
    assert "adapter.r" in draft.inactive()
    draft.drop_inactive()
    assert not draft.has("adapter.r")
    assert ("adapter.kind", "lora", "none") in draft.difference()
