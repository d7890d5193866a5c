"""Children of New: their answers, their last words, and their end."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from ftlab.errors import TryLater
from ftlab.facts import Machine
from ftlab_tui.new import children


async def test_exit_code_answer_and_last_words(tmp_path: Path) -> None:
    out = tmp_path / "answer"
    code = "import os, sys; print(os.environ['GIVEN']); sys.exit('first\\nlast words\\n')"
    done = await children.run(["-c", code], tmp_path, out, {"GIVEN": "here"})
    assert done == (1, "last words")
    assert out.read_text() == "here\n"
    assert await children.run(["-c", ""], tmp_path) == (0, "it said nothing")


async def test_a_child_that_is_not_wanted_any_more_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    task = asyncio.create_task(children.run(["-c", code], tmp_path))
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_a_model_that_cannot_be_fetched_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PREPARE", "raise SystemExit('no network')")
    with pytest.raises(TryLater, match="no network"):
        await children.fetch_starter()
    monkeypatch.setattr(children, "PREPARE", "")
    await children.fetch_starter()


async def test_the_machine_is_described_by_a_child(tmp_path: Path) -> None:
    found = await children.machine(tmp_path)
    assert isinstance(found, Machine)
    assert found.memory_free_bytes > 0
