"""The generated pages: complete, and the same as what lies in docs/."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab import docs
from ftlab.cli import COMMANDS
from ftlab.schema import settings

FOLDER = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", docs.pages())
def test_the_page_is_what_make_docs_writes(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == docs.pages()[name], "run make docs"


def test_every_setting_and_command_is_there() -> None:
    pages = docs.pages()
    found = [line[4:] for line in pages["settings.md"].splitlines() if line.startswith("### ")]
    assert found == [setting.path for setting in settings()]
    for command in COMMANDS:
        assert f"\n## ftrun {command}\n" in pages["commands.md"]


def test_choices_are_named() -> None:
    assert "one of" in docs.commands_page()


def test_pages_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main([str(tmp_path / "docs")]) == 0
    assert {path.name for path in (tmp_path / "docs").iterdir()} == set(docs.pages())
    assert capsys.readouterr().out.count("\n") == 2
