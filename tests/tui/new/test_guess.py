"""What the first rows ask for, and the hub's answer as rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import TryLater
from ftlab_tui.new import children, guess
from ftlab_tui.new.draft import Draft

PAIR = {"prompt": "p", "chosen": "c", "rejected": "r"}
ROW = {"instruction": "a", "output": "b"}


def draft(path: Path, *rows: Any) -> Draft:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = Draft()
    made.set("data.source", str(path))
    return made


def test_pairs_turn_dpo_on_and_rows_turn_it_off(tmp_path: Path) -> None:
    made = draft(tmp_path / "d.jsonl", PAIR)
    assert guess.method(made).startswith("DPO is on")
    assert made.get("method.kind") == "dpo"
    assert guess.method(made) == ""  # as it is already
    (tmp_path / "d.jsonl").write_text(json.dumps(ROW) + "\n")
    assert "needs columns chosen and rejected" in guess.method(made)
    assert made.get("method.kind") == "sft"


def test_nothing_is_guessed_from_nothing(tmp_path: Path) -> None:
    assert guess.method(draft(tmp_path / "d.jsonl")) == ""
    assert guess.method(draft(tmp_path / "e.jsonl", {"neither": 1})) == ""


async def test_the_hubs_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(arguments: Any, folder: Path, out: Path) -> tuple[int, str]:
        assert arguments[-1] == "some words"
        out.write_text('["org/a", "mit"]\n["org/b", "gated"]\n')
        return 0, ""

    monkeypatch.setattr(children, "run", run)
    assert await guess.search("some words") == [("org/a", "mit"), ("org/b", "gated")]


async def test_without_a_network() -> None:
    """A real child, which the tests keep offline."""
    with pytest.raises(TryLater, match="cannot be searched now"):
        await guess.search("llama")
