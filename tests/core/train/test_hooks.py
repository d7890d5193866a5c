"""Hooks: what is recorded, when it is saved and evaluated, and how requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab import control, events, ledger
from ftlab.control import Inbox
from ftlab.errors import Interrupted
from ftlab.evaluation.samples import Sample
from ftlab.events import EventWriter
from ftlab.ledger import Ledger
from ftlab.run import Run
from ftlab.train.hooks import Evaluator, Recorder, Requests, Saver
from ftlab.train.loop import StepResult
from ftlab.train.signals import StopSignal
from ftlab.train.state import Totals

STEPS = 10


class FakeState:
    """Counts its hashes and writes a file."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.written: list[int] = []

    def hash(self) -> bytes:
        return b"h" * 16

    def write(self, folder: Path, step: int) -> None:
        self.written.append(step)
        (folder / "state.json").write_text("{}")


def result(step: int, **changes: Any) -> StepResult:
    fields: dict[str, Any] = {
        "step": step, "epoch": 0.5, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "tokens": 7,
        "trained_tokens": 3, "batch_hash": 5, "skipped": False, "seconds": 0.5,
        "metrics": {"rewards/margins": 0.25},
    }  # fmt: skip
    return StepResult(**fields | changes)


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    """A run directory with open writers."""
    run = Run(tmp_path / "run")
    for folder in (run.path, run.control_dir, run.checkpoints_dir):
        folder.mkdir()
    heartbeat = SimpleNamespace(said=[], update=lambda **fields: heartbeat.said.append(fields))
    desk = SimpleNamespace(
        run=run,
        events=EventWriter(run.events_path),
        samples=EventWriter(run.samples_path),
        ledger=Ledger.open(run.ledger_path),
        heartbeat=heartbeat,
        state=FakeState(),
        stop=StopSignal(),
    )
    yield desk
    for opened in (desk.events, desk.samples, desk.ledger):
        opened.close()


def kinds(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run.events_path)[0] if event["kind"] == kind]


def recorder(desk: Any, **changes: int) -> Recorder:
    settings = {"steps": STEPS, "hash_every": 4, "log_every": 3, **changes}
    return Recorder(
        desk.ledger, desk.events, desk.heartbeat, desk.state, memory=lambda: 99, **settings
    )


def saver(desk: Any, every: int = 4) -> Saver:
    return Saver(
        desk.run.checkpoints_dir, desk.state, desk.ledger, desk.events,
        steps=STEPS, every=every, keep=2,
    )  # fmt: skip


def evaluator(
    desk: Any, evaluate: Callable[[], Mapping[str, float]] | None = lambda: {"loss": 1.5}
) -> Evaluator:
    sample = Sample("prompt", "text", "reference")
    return Evaluator(
        evaluate, lambda: [sample], desk.events, desk.samples, desk.stop, steps=STEPS, every=4
    )


def test_recorder_misses_no_step_in_the_ledger(desk: Any) -> None:
    hook = recorder(desk)
    hook.begin(0)
    for step in range(1, STEPS + 1):
        hook.after_step(result(step))
    records = ledger.read(desk.run.ledger_path)
    assert [record.step for record in records] == list(range(1, STEPS + 1))
    assert [record.step for record in records if record.state_hash] == [4, 8, 10]
    logged = kinds(desk.run, "step")
    assert [event["step"] for event in logged] == [3, 6, 9, 10]
    assert logged[1]["tokens_total"] == 42
    assert logged[1]["trained_total"] == 18
    assert logged[1]["tok_s"] == 14.0
    assert logged[1]["mem_bytes"] == 99
    assert logged[1]["rewards/margins"] == 0.25
    assert desk.heartbeat.said[-1] == {"step": 10}


def test_recorder_says_where_it_begins(desk: Any) -> None:
    recorder(desk).begin(0)
    recorder(desk).begin(6)
    begins = [(e["step"], e["steps"], e["resumed_from"]) for e in kinds(desk.run, "started")]
    assert begins == [(0, STEPS, None), (6, STEPS, 6)]


def test_skipped_steps_are_always_logged(desk: Any) -> None:
    hook = recorder(desk, log_every=100)
    hook.after_step(result(1, skipped=True, grad_norm=float("inf")))
    assert kinds(desk.run, "step")[0]["skipped"] is True


def test_saver_saves_in_its_rhythm_and_at_the_end(desk: Any) -> None:
    hook = saver(desk)
    hook.begin(0)
    for step in range(1, STEPS + 1):
        hook.after_step(result(step))
    assert desk.state.written == [4, 8, 10]
    assert [e["path"] for e in kinds(desk.run, "checkpoint")][-1] == "step-00000010"
    names = sorted(path.name for path in desk.run.checkpoints_dir.iterdir())
    assert names == ["step-00000008", "step-00000010"]


def test_saver_writes_a_step_once(desk: Any) -> None:
    hook = saver(desk)
    hook.begin(6)
    hook.save(6)  # that is what was resumed from
    hook.save(7)
    hook.save(7)
    assert desk.state.written == [7]


def test_evaluator_in_its_rhythm(desk: Any) -> None:
    hook = evaluator(desk)
    hook.begin(0)
    for step in range(1, STEPS + 1):
        hook.after_step(result(step))
    assert [(e["step"], e["loss"]) for e in kinds(desk.run, "eval")] == [
        (4, 1.5), (8, 1.5), (10, 1.5),
    ]  # fmt: skip
    assert len(kinds(desk.run, "sample")) == 3
    written = events.read(desk.run.samples_path)[0]
    assert (written[0]["step"], written[0]["text"]) == (4, "text")


def test_evaluator_makes_up_for_what_a_kill_cut_off(desk: Any) -> None:
    evaluator(desk).begin(8)
    evaluator(desk).begin(8)  # now it is there
    evaluator(desk).begin(7)  # not due
    assert [e["step"] for e in kinds(desk.run, "eval")] == [8]


def test_evaluation_cut_by_a_signal_leaves_no_event(desk: Any) -> None:
    def cut() -> Mapping[str, float]:
        desk.stop.name = "SIGTERM"
        return {"loss": 0.0}

    hook = evaluator(desk, cut)
    hook.after_step(result(4))
    hook.after_step(result(8))
    assert not kinds(desk.run, "eval")
    assert not kinds(desk.run, "sample")


def test_evaluation_without_data_is_a_warning(desk: Any) -> None:
    evaluator(desk, None).evaluate(4)
    assert "data.eval_fraction" in kinds(desk.run, "warning")[0]["message"]


def requests(desk: Any) -> Requests:
    return Requests(Inbox(desk.run), desk.stop, saver(desk), evaluator(desk), desk.events)


def test_requests_are_answered_by_number(desk: Any) -> None:
    hook = requests(desk)
    numbers = [control.request(desk.run, name) for name in ("eval", "save", "sample")]
    hook.after_step(result(3))
    hook.after_step(result(4))
    answered = [(e["number"], e["name"], e["step"]) for e in kinds(desk.run, "answered")]
    assert answered == [(numbers[0], "eval", 3), (numbers[1], "save", 3), (numbers[2], "sample", 3)]
    assert [e["number"] for e in kinds(desk.run, "request")] == numbers
    assert desk.state.written == [3]
    assert [e["step"] for e in kinds(desk.run, "eval")] == [3]
    assert [e["step"] for e in kinds(desk.run, "sample")] == [3]


def test_stop_saves_answers_and_leaves(desk: Any) -> None:
    hook = requests(desk)
    control.request(desk.run, "stop")
    with pytest.raises(Interrupted, match="a stop request after step 5"):
        hook.after_step(result(5))
    assert desk.state.written == [5]
    assert kinds(desk.run, "answered")[0]["name"] == "stop"


def test_stop_asked_while_loading_is_heard_before_the_first_step(desk: Any) -> None:
    control.request(desk.run, "stop")
    with pytest.raises(Interrupted, match="after step 0"):
        requests(desk).begin(0)


def test_a_signal_saves_and_leaves(desk: Any) -> None:
    desk.stop.name = "SIGTERM"
    with pytest.raises(Interrupted, match="SIGTERM after step 5"):
        requests(desk).after_step(result(5))
    assert desk.state.written == [5]
