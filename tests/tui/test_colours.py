"""Colours for rich text, of any theme."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from rich.color import ColorType
from textual.app import App

from ftlab_tui import colours


def made(**variables: str) -> dict[str, Any]:
    app = SimpleNamespace(theme_variables=variables)
    return dict(colours.styles(cast("App[object]", app)))


def test_every_meaning_has_a_style() -> None:
    found = made(primary="#102030")
    assert set(found) == {*colours.NAMES, "muted"}
    assert found["primary"].color.triplet == (0x10, 0x20, 0x30)
    assert found["muted"].dim


def test_the_terminals_own_colours_stay_its_own() -> None:
    color = made(error="ansi_red")["error"].color
    assert color.type is ColorType.STANDARD
    assert color.number == 1


def test_what_is_no_colour_is_plain() -> None:
    found = made(primary="auto 87%")
    assert found["primary"].color is None
    assert found["warning"].color is None
