"""Scoring on the held-out rows, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftlab import atomic, child
from ftlab.starter import data, model, score


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of three held-out rows."""
    path = tmp_path / "rows.jsonl"
    lines = data.write(tmp_path).held_out.read_text().splitlines()[:3]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_are_prompt_and_reference(rows: Path) -> None:
    found = score.read_rows(rows)
    orders = data.orders(data.HELD_OUT, 3, data.SEED)
    assert found == [(order.prompt(), order.record) for order in orders]


def test_the_longest_record_fits(smollm2: Path) -> None:
    """An answer that is right is never cut off."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    orders = data.orders(data.HELD_OUT, data.HELD_OUT_ROWS, data.SEED)
    longest = max(len(tokenizer(order.record)["input_ids"]) for order in orders)
    assert longest + 1 <= score.LONGEST_ANSWER  # and the end of the turn


def test_a_model_is_scored(tiny_cache: Path, rows: Path, tmp_path: Path) -> None:
    request = {
        "model": str(tiny_cache / "models" / model.NAME), "adapter": None, "rows": str(rows),
        "device": "cpu", "dtype": "fp32",
    }  # fmt: skip
    atomic.write_json(tmp_path / "request.json", request)
    assert score.main([str(tmp_path / "request.json"), str(tmp_path / "answer.json")]) == 0
    result = json.loads((tmp_path / "answer.json").read_text())
    assert (result["score"], result["correct"], result["rows"]) == (0.0, 0, 3)
    assert set(result["answers"][0]) == {"prompt", "text", "reference", "correct"}


def test_a_fault_is_an_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftlab.starter.score", "nothing.json", "answer.json"],
        cwd=tmp_path, capture_output=True, text=True, env=child.environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nothing.json is gone" in done.stderr
