"""The trainer process: however it ends, it says so, and the last good checkpoint is kept."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab import control, events, launch, ledger
from ftlab.commands import watch
from ftlab.launch import local
from ftlab.ledger import first_difference
from ftlab.plan import Plan
from ftlab.run import Run
from ftlab.train import build, checkpoint
from ftlab.train.objectives.sft import Sft

TrainRun = Callable[..., tuple[Run, int]]
DRIVER = Path(__file__).with_name("kill_driver.py")


def kinds(run: Run) -> list[str]:
    return [event["kind"] for event in events.read(run.events_path)[0]]


def said(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run.events_path)[0] if event["kind"] == kind]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    ours = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    return {**os.environ, **ours, "CUDA_VISIBLE_DEVICES": ""}  # a GPU does not survive a fork


def test_a_finished_run_has_said_everything(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    run, code = train_run(plan_of("sft"))
    assert code == 0
    assert kinds(run)[0] == "started"
    assert kinds(run)[-1] == "finished"
    assert kinds(run).count("step") == 8
    assert [e["step"] for e in said(run, "checkpoint")] == [3, 6, 8]
    assert [e["step"] for e in said(run, "eval")] == [4, 8]
    assert run.liveness() == "done"
    assert run.status().step == 8
    assert run.exit() is not None
    assert run.exit()["code"] == 0  # type: ignore[index]
    manifest = json.loads(run.manifest_path.read_text())
    assert "export/adapter/adapter_model.safetensors" in manifest["outputs"]
    assert manifest["ledger"]["records"] == 8


def test_nan_ends_with_1_and_the_last_good_checkpoint(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Sft.loss, []

    def poisoned(self: Sft, *arguments: Any) -> Any:
        loss, metrics = real(self, *arguments)
        calls.append(1)
        return (loss * float("nan") if len(calls) == 10 else loss), metrics  # in step 5

    monkeypatch.setattr(Sft, "loss", poisoned)
    run, code = train_run(plan_of("sft", held_out=False, eval_every=0))
    assert code == 1
    assert "loss of step 5" in said(run, "error")[0]["message"]
    assert "step-00000003" in said(run, "error")[0]["message"]
    assert said(run, "finished")[0]["state"] == "failed"
    found, _ = checkpoint.newest(run.checkpoints_dir)
    assert found is not None
    assert found.step == 3
    assert [r.step for r in ledger.read(run.ledger_path)] == [1, 2, 3, 4]
    exit_json = run.exit()
    assert exit_json is not None
    assert (exit_json["code"], exit_json["state"], exit_json["step"]) == (1, "failed", 4)
    assert not list(run.export_dir.iterdir())

    monkeypatch.setattr(Sft, "loss", real)  # say the row was repaired: the run goes on
    assert train_run(run, resume=True)[1] == 0


def test_a_full_disk_ends_with_3_and_the_previous_checkpoint(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.TrainState.write

    def full(self: Any, folder: Path, step: int) -> None:
        real(self, folder, step)
        if step == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build.TrainState, "write", full)
    run, code = train_run(plan_of("sft"))
    assert code == 3
    assert "no space left" in said(run, "error")[0]["message"]
    assert [path.name for path in run.checkpoints_dir.iterdir()] == ["step-00000003"]
    monkeypatch.undo()
    assert train_run(run, resume=True)[1] == 0


def test_a_disk_too_full_for_last_words_still_ends_clearly(
    plan_of: Callable[..., Plan],
    train_run: TrainRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = train_run(plan_of("sft", max_steps=3))
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        if descriptor > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    code = train_run(run, resume=True)[1]
    monkeypatch.undo()
    assert code == 3
    assert "no space left" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only who may mount can make a small disk")
    except OSError:
        pytest.skip("there is no mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take every byte that is left."""
    with path.open("wb", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def test_a_disk_that_fills_up_while_training_leaves_its_reason(
    plan_of: Callable[..., Plan],
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    run = Run.create(plan_of("sft", max_steps=20_000, held_out=False, eval_every=0), small_disk)
    launch.start(run)
    deadline = time.monotonic() + 120
    while not (run.ledger_path.exists() and ledger.read(run.ledger_path)):
        assert run.liveness() in ("running", "planned"), run.log_path.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    fill(small_disk / "filler")
    assert local.wait(run, 120) == "failed"
    end = run.exit() or {}
    assert (end["code"], end["state"]) == (3, "failed")
    assert "no space left" in end["reason"]
    assert json.loads(run.manifest_path.read_text())["state"] == "failed"
    watch.tell_end(run, run.liveness(), end)
    told = capsys.readouterr().err
    assert "no space left" in told
    assert "left no word" not in told
    assert not list(run.path.glob(".*.room"))


def test_out_of_memory_ends_with_3(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 GiB")

    monkeypatch.setattr(Sft, "loss", exhausted)
    run, code = train_run(plan_of("sft"))
    assert code == 3
    assert "train.micro_batch_size: 1" in said(run, "error")[0]["message"]


def test_a_fault_of_ours_is_traced_in_the_log(
    plan_of: Callable[..., Plan],
    train_run: TrainRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Sft, "loss", lambda *arguments: 1 / 0)
    run, code = train_run(plan_of("sft"))
    assert code == 1
    assert said(run, "error")[0]["message"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in capsys.readouterr().err


def test_a_second_trainer_is_refused(plan_of: Callable[..., Plan], train_run: TrainRun,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    run, _ = train_run(plan_of("sft", max_steps=1))
    before = run.events_path.read_bytes()
    with run.lock():
        assert train_run(run, resume=True)[1] == 3
    assert "is being trained by" in capsys.readouterr().err
    assert run.events_path.read_bytes() == before


def test_what_was_begun_is_not_begun_again(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    run, _ = train_run(plan_of("sft"))
    assert train_run(run)[1] == 2
    assert "use `ftrun resume`" in said(run, "error")[0]["message"]


def test_another_plan_is_refused(plan_of: Callable[..., Plan], train_run: TrainRun) -> None:
    run, _ = train_run(plan_of("sft"))
    plan = json.loads(run.plan_path.read_text())
    plan["hash"] = "0" * 64
    run.plan_path.write_text(json.dumps(plan))
    assert train_run(run, resume=True)[1] == 2
    assert "its plan is ffffffffffff" in said(run, "error")[0]["message"]


def test_a_damaged_checkpoint_is_passed_over_and_said(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    straight, _ = train_run(plan_of("sft"))
    run, _ = train_run(plan_of("sft"))
    weights = run.checkpoints_dir / "step-00000008" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert train_run(run, resume=True)[1] == 0
    assert "step-00000008 is ignored" in said(run, "warning")[0]["message"]
    assert said(run, "started")[-1]["resumed_from"] == 6
    assert run.ledger_path.read_bytes() == straight.ledger_path.read_bytes()
    found, ignored = checkpoint.newest(run.checkpoints_dir)
    assert found is not None
    assert (found.step, ignored) == (8, [])


def test_all_checkpoints_damaged_is_no_silent_restart(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    run, _ = train_run(plan_of("sft"))
    for path in run.checkpoints_dir.iterdir():
        (path / "state.json").write_text("{}")
    assert train_run(run, resume=True)[1] == 1
    assert "every checkpoint" in said(run, "error")[0]["message"]


def test_a_stop_request_saves_and_the_rest_is_the_same(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = train_run(plan_of("dpo"))
    real = build.Recorder.after_step

    def ask(self: Any, result: Any) -> None:
        real(self, result)
        if result.step == 4:
            control.request(run, "stop")

    run = Run.create(plan_of("dpo"), straight.path.parent)
    monkeypatch.setattr(build.Recorder, "after_step", ask)
    assert train_run(run)[1] == 130
    monkeypatch.undo()
    assert run.liveness() == "stopped"
    assert said(run, "answered")[0] == said(run, "answered")[0] | {"name": "stop", "step": 4}
    assert [e["step"] for e in said(run, "checkpoint")] == [3, 4]
    assert train_run(run, resume=True)[1] == 0
    assert run.ledger_path.read_bytes() == straight.ledger_path.read_bytes()
    exported = "adapter/adapter_model.safetensors"
    assert (run.export_dir / exported).read_bytes() == (straight.export_dir / exported).read_bytes()


@pytest.mark.parametrize("during", ["step", "save"])
def test_signals_save_and_end_with_130(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """The second signal comes while the save that the first caused is under way."""
    loss, write = Sft.loss, build.TrainState.write
    calls: list[int] = []

    def hit_in_step(self: Sft, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, *arguments)

    def hit_in_save(self: Any, folder: Path, step: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        write(self, folder, step)

    monkeypatch.setattr(Sft, "loss", hit_in_step)
    if during == "save":
        monkeypatch.setattr(build.TrainState, "write", hit_in_save)
    run, code = train_run(plan_of("sft", held_out=False, eval_every=0, save_every=100))
    assert code == 130
    assert said(run, "finished")[0]["state"] == "stopped"
    found, ignored = checkpoint.newest(run.checkpoints_dir)
    assert found is not None
    assert (found.step, ignored) == (5, [])
    exit_json = run.exit()
    assert exit_json is not None
    assert "SIGINT after step 5" in exit_json["reason"]


def test_a_real_process_obeys_sigterm(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    run = Run.create(plan_of("sft", max_steps=5000, eval_every=0, save_every=5000), tmp_path)
    with run.log_path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "ftlab.train", str(run.path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while "step" not in kinds(run) and time.monotonic() < deadline:
                assert child.poll() is None, run.log_path.read_text()
                time.sleep(0.05)
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == 130, run.log_path.read_text()
        finally:
            child.kill()
            child.wait()
    assert run.liveness() == "stopped"
    found, _ = checkpoint.newest(run.checkpoints_dir)
    assert found is not None
    assert found.step == run.status().step > 0


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_killed_at_random_instants_it_equals_a_straight_run(
    plan_of: Callable[..., Plan], train_run: TrainRun, tmp_path: Path, kind: str
) -> None:
    """SIGKILL at 12 instants of a run that spends much of its time saving: at every second step."""
    settings = {"max_steps": 50, "save_every": 2, "eval_every": 10, "batch_size": 2}
    straight, code = train_run(plan_of(kind, **settings))
    assert code == 0
    run = Run.create(plan_of(kind, **settings), tmp_path / "killed")
    ended = subprocess.run(
        [sys.executable, str(DRIVER), str(run.path), "12"],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    report = json.loads(ended.stdout)
    assert report["killed"] == 12
    assert len(said(run, "finished")) == 1
    assert first_difference(straight.ledger_path, run.ledger_path) is None
    assert run.ledger_path.read_bytes() == straight.ledger_path.read_bytes()
    exported = "adapter/adapter_model.safetensors"
    assert (run.export_dir / exported).read_bytes() == (straight.export_dir / exported).read_bytes()
