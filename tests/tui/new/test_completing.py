"""Paths are completed; hub ids are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab_tui.app import FtuiApp
from ftlab_tui.new import sources
from ftlab_tui.new.completing import PathSuggester


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "data/train.jsonl",
        "data/train.log",
        "data/.hidden.jsonl",
        "models/m/config.json",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("da", "data/"), ("data/", "data/train.jsonl"), ("data/tr", "data/train.jsonl"),
        ("./d", "./data/"), ("~/da", "~/data/"), ("data/train.jsonl", None), ("org/name", None),
        ("", None), ("/", None), ("nowhere/x", None), ("data/.h", None),
    ],
)  # fmt: skip
async def test_the_first_that_fits(typed: str, shown: str | None) -> None:
    found = await PathSuggester(sources.is_data).get_suggestion(typed)
    assert found == shown or (typed == "/" and found is not None)


async def test_models_are_folders() -> None:
    suggester = PathSuggester(lambda path: False)
    assert await suggester.get_suggestion("mod") == "models/"
    assert await suggester.get_suggestion("data/tr") is None


async def test_the_right_arrow_takes_it(quiet: list[str], make_app: Callable[[], FtuiApp]) -> None:
    Path("mine.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("enter")
        app.screen.query_one("#data-source").focus()
        await pilot.press("m", "i")
        await pilot.pause(0.2)
        await pilot.press("right")
        assert app.screen.draft.get("data.source") == "mine.jsonl"  # type: ignore[attr-defined]
