"""The declaration of every setting: complete, consistent, and frozen."""

from __future__ import annotations

import pytest

from ftlab.schema import RunConfig, sections, settings
from ftlab.setting import Setting

EXPECTED_SECTIONS = ["model", "adapter", "data", "method", "optim", "train", "memory", "launch"]


def test_sections_and_count() -> None:
    assert list(sections()) == EXPECTED_SECTIONS
    assert len(settings()) == 57
    assert len({setting.path for setting in settings()}) == 57


@pytest.mark.parametrize("setting", settings(), ids=lambda s: s.path)
def test_a_setting_is_declared_in_full(setting: Setting) -> None:
    assert setting.help.endswith(".")
    assert not setting.raising or setting.raising.startswith("Raise it")
    assert setting.required or setting.default is not None or setting.nullable
    if setting.minimum is not None and setting.maximum is not None:
        assert setting.minimum < setting.maximum


def test_every_number_has_a_lower_bound() -> None:
    numbers = [s for s in settings() if {int, float} & set(s.members)]
    assert len(numbers) == 24
    assert [s.path for s in numbers if s.minimum is None] == []


def test_members_choices_and_nullable() -> None:
    by_path = {setting.path: setting for setting in settings()}
    length = by_path["model.max_length"]
    assert int in length.members
    assert length.choices == ("auto",)
    assert by_path["train.max_steps"].nullable
    assert not length.nullable
    assert by_path["model.name"].members == (str,)
    assert [s.path for s in settings() if s.required] == ["model.name", "data.source"]


def test_to_dict_holds_every_setting() -> None:
    value = RunConfig().to_dict()
    assert sum(len(section) for section in value.values()) == 57
    assert RunConfig().data.columns is not RunConfig().data.columns
