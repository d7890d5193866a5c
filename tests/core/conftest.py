"""A plan without a probe, a run made of it, and a fake trainer that keeps the run's contract."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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


SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip
GPUS = {  # name, capability, GiB, multiprocessors
    "k80": ("Tesla K80", (3, 7), 12, 13),
    "t4": ("Tesla T4", (7, 5), 16, 40),
    "v100": ("Tesla V100", (7, 0), 16, 80),
    "a100": ("NVIDIA A100", (8, 0), 40, 108),
    "4090": ("NVIDIA RTX 4090", (8, 9), 24, 128),
    "h100": ("NVIDIA H100", (9, 0), 80, 132),
}


def fake_facts(
    model: dict[str, Any] | None = None,
    gpus: tuple[str, ...] = (),
    data: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    **changed: Any,
) -> Facts:
    """Facts of a 2-core machine, SmolLM2's shape and 1200 Alpaca rows, with changes.

    Args:
        model: raw config.json; gpus: names of GPUS; data, machine, evaluation, **changed (of the
            model's facts): fields that differ.
    """
    from ftlab.models.families import spec_from_config

    spec = spec_from_config(model or SMOLLM2)
    cards = tuple(
        Gpu(i, name, capability, gib << 30, (gib - 1) << 30, count)
        for i, (name, capability, gib, count) in enumerate(GPUS[key] for key in gpus)
    )
    computer = Machine(
        "Linux", "AMD EPYC", 2, 2, False, 24 << 30, 20 << 30, 100 << 30, gpus=cards,
        versions={"torch": "2.4.1", "bitsandbytes": "0.50.2"},
    )  # fmt: skip
    described = ModelFacts(
        "some/model", "some/model", "c0ffee", spec.architecture, spec.family, spec.to_dict(),
        spec.parameters(), spec.linear_shapes(), spec.embedding_parameters(), "bf16",
        2 * spec.parameters(), "", spec.max_positions, True, {"config": "a", "weights": "b"},
    )  # fmt: skip
    rows = DataFacts(
        "rows.jsonl", "alpaca", "columns instruction and output", "/store", "d" * 64, 1200,
        tokens=240_000, trained_tokens=80_000, longest=500,
        percentiles={"50": 180, "95": 400, "99": 470}, histogram=((256, 1000), (512, 200)),
        sample="<user>\nWhat is 2+2?\n<assistant>\n⟦4<end>⟧\n", template="the tokenizer's own",
    )  # fmt: skip
    held_out = None
    if evaluation is not None:
        own = {"rows": 60, "tokens": 12_000, "trained_tokens": 4_000, "sha256": "e" * 64}
        held_out = dataclasses.replace(rows, **{**own, **evaluation})
    return Facts(
        dataclasses.replace(computer, **(machine or {})),
        dataclasses.replace(described, **changed),
        dataclasses.replace(rows, **(data or {})),
        held_out,
    )


@pytest.fixture
def make_facts() -> Callable[..., Facts]:
    """The maker of fake facts, see `fake_facts`."""
    return fake_facts


@pytest.fixture
def resolve() -> Callable[..., Plan]:
    """`resolve(["a.b=c"], **changes)`: the plan of a small config with fake facts."""
    from ftlab import config, plan

    def make(overrides: Sequence[str] = (), **changes: Any) -> Plan:
        parsed = config.parse("model: some/model\ndata: rows.jsonl\n", overrides=overrides)
        return plan.resolve(parsed, fake_facts(**changes))

    return make
