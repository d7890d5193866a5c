"""A run in one glance, whatever state its files are in."""

from __future__ import annotations

import shutil

from ftlab import events, summary
from ftlab.run import Run


def test_a_planned_run(planned: Run) -> None:
    seen = summary.of(planned)
    assert (seen["state"], seen["step"], seen["steps"]) == ("planned", 0, 50)
    assert (seen["model"], seen["data"]) == ("org/SmolLM2-135M-Instruct", "rows.jsonl")
    assert (seen["method"], seen["loss"], seen["eval"], seen["exit"]) == ("sft", None, None, None)
    assert 0 <= seen["age"] < 60


def test_a_run_with_events(planned: Run) -> None:
    with events.EventWriter(planned.events_path) as writer:
        writer.write("eval", step=4, loss=1.5)
        writer.write("step", step=7, loss=2.0, tok_s=10)
    seen = summary.of(planned)
    assert (seen["step"], seen["loss"], seen["tok_s"]) == (7, 2.0, 10)
    assert seen["eval"] == {"step": 4, "loss": 1.5}


def test_only_complete_checkpoints_count(planned: Run) -> None:
    assert summary.newest_checkpoint(planned) is None
    for name, complete in (("step-00000009", 1), ("step-00000010", 1), ("step-00000020", 0)):
        (planned.checkpoints_dir / name).mkdir()
        if complete:
            (planned.checkpoints_dir / name / "COMPLETE").touch()
    (planned.checkpoints_dir / "notes").touch()
    newest = summary.newest_checkpoint(planned)
    assert newest
    assert newest.name == "step-00000010"
    assert summary.checkpoint_step(newest) == 10
    assert summary.checkpoint_step(planned.path) == 0
    assert summary.of(planned)["checkpoint"] == str(newest)


def test_a_damaged_run_is_still_listed(planned: Run) -> None:
    planned.plan_path.write_text('{"config": {"model": 3}}')
    planned.status_path.write_text("{")
    planned.events_path.write_text("garbage\n")
    seen = summary.of(planned)
    assert (seen["model"], seen["state"], seen["age"]) == (None, "planned", None)
    planned.plan_path.write_text("[]")
    assert summary.of(planned)["data"] is None
    shutil.rmtree(planned.path)
    assert summary.of(planned)["checkpoint"] is None


def test_the_end_of_a_log(planned: Run) -> None:
    assert summary.log_tail(planned) == []
    text = "".join(f"line {i}\n" for i in range(40)) + "50 %\r100 %\n"
    planned.log_path.write_bytes(text.encode() + b"\xff end")
    assert summary.log_tail(planned, 3) == ["50 %", "100 %", "\ufffd end"]
