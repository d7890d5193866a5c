"""A plan without a probe, a run made of it, and a fake trainer that keeps the run's contract."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftlab.facts import DataFacts, Facts, Gpu, Machine, ModelFacts
from ftlab.plan import Decision, Plan
from ftlab.run import Run
from ftlab.schema import DataSection, LaunchSection, ModelSection, RunConfig, TrainSection

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")
DRIVER = Path(__file__).with_name("fake_ftrun.py")


def fake_plan(steps: int = 50) -> Plan:
    """A resolved plan of `steps` steps on the CPU; nothing it names exists."""
    machine = Machine("Linux", "cpu", 2, 2, False, 8 << 30, 4 << 30, 9 << 30, driver="550.1")
    gpu = Gpu(0, "NVIDIA H100", (9, 0), 80 << 30, 79 << 30, 132, True)
    model = ModelFacts(
        "org/SmolLM2-135M-Instruct", "/m", "c0ffee", "LlamaForCausalLM", "llama", {}, 135_000_000,
        {}, 28_000_000, "float32", 540_000_000, "", 2048, True,
        {"weights": "w" * 64, "config": "c" * 64, "tokenizer": "t" * 64, "template": "p" * 64},
    )  # fmt: skip
    data = DataFacts("rows.jsonl", "alpaca", "columns", "/store", "d" * 64, 800)
    facts = Facts(
        dataclasses.replace(machine, gpus=(gpu,), versions={"torch": "2.4.1"}), model, data
    )
    config = RunConfig(
        model=ModelSection(name=model.name, precision="fp32", max_length=512),
        data=DataSection(source="rows.jsonl"),
        train=TrainSection(max_steps=steps, micro_batch_size=4, eval_every=0, save_every=10),
        launch=LaunchSection(devices=[]),
    )
    decisions = {
        "model.precision": Decision("fp32", "no GPU is visible"),
        "compute_dtype": Decision("fp32", "this CPU has no bf16 arithmetic"),
        "device": Decision("cpu", "no GPU is visible"),
        "train.micro_batch_size": Decision(4, "fits"),
    }
    return Plan(
        config, decisions, {"weights": 540_000_000}, steps, 50, 800, 9000, (10.0, 20.0), 1 << 20,
        (), facts, 1, "f" * 64,
    )  # fmt: skip


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """The maker of fake plans: `make_plan(steps=50)`."""
    return fake_plan


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    """An empty folder of runs."""
    return tmp_path / "runs"


@pytest.fixture
def planned(runs_root: Path) -> Run:
    """A run of 50 steps that nobody has started."""
    return Run.create(fake_plan(), runs_root)


@pytest.fixture
def fake_trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`launch.local` starts the fake trainer, and no process is left behind."""
    from ftlab.launch import local

    def command(run: Run, resume: bool) -> list[str]:
        arguments = [sys.executable, os.fspath(FAKE_TRAINER), os.fspath(run.path)]
        return [*arguments, "--resume"] if resume else arguments

    monkeypatch.setattr(local, "trainer_command", command)
    known = set(local._children)
    yield FAKE_TRAINER
    for pid in set(local._children) - known:
        child = local._children.pop(pid)
        if child.poll() is None:
            os.killpg(pid, signal.SIGKILL)
        child.wait(10)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python child with pipes and a session of its own; ended with the test."""
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        defaults = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
        }
        command = [sys.executable, *map(str, arguments)]
        child = subprocess.Popen(command, **(defaults | options))  # type: ignore[call-overload]
        children.append(child)
        return child  # type: ignore[no-any-return]

    yield start
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
