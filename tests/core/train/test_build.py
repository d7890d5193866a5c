"""From plan to result: resumed at any step a run repeats the bits of a straight one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab import events, ledger
from ftlab.plan import Plan
from ftlab.planning.types import Decision
from ftlab.run import Run
from ftlab.train import build, rehearsal
from ftlab.train.numerics import LossScaler

TrainRun = Callable[..., tuple[Run, int]]
STEPS = 8


class Crash:
    """A hook that ends the process's work after a step, with nothing saved or said."""

    def __init__(self, step: int) -> None:
        self.step = step

    def begin(self, step: int) -> None:
        """Nothing."""

    def after_step(self, result: Any) -> None:
        if result.step == self.step:
            raise RuntimeError("crash")


@pytest.fixture
def crash_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """`crash_after(k)`: every run crashes after step k, before a checkpoint of k is written."""
    real = build._hooks

    def arrange(step: int | None) -> None:
        def hooks(*arguments: Any) -> list[Any]:
            recorder, *others = real(*arguments)
            return [recorder, *([] if step is None else [Crash(step)]), *others]

        monkeypatch.setattr(build, "_hooks", hooks)

    return arrange


def fingerprint(run: Run) -> dict[str, str]:
    """sha256 of the ledger and of every exported file."""
    files = [run.ledger_path, *sorted(p for p in run.export_dir.rglob("*") if p.is_file())]
    return {str(f.relative_to(run.path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


VARIANTS: dict[str, dict[str, Any]] = {
    "sft": {"kind": "sft"},
    "dpo": {"kind": "dpo"},
    "sft 8-bit": {"kind": "sft", "optim": {"name": "adamw_8bit"}, "adapter": {"r": 64}},
    "dpo full": {"kind": "dpo", "adapter": {"kind": "none"}, "optim": {"learning_rate": 1e-3}},
}


GPU = {"device": "cuda:0", "compute": "bf16", "model": {"precision": "bf16"}}
GPU_VARIANTS: dict[str, dict[str, Any]] = {
    "sft": {"kind": "sft", **GPU},
    "sft recomputed": {"kind": "sft", **GPU, "memory": {"checkpointing": "on"}},
    "dpo packed": {"kind": "dpo", **GPU, "data": {"packing": True}},
    "sft fp16": {"kind": "sft", **GPU, "compute": "fp16", "model": {"precision": "fp16"}},
    "dpo nf4 8-bit": {
        "kind": "dpo", **GPU, "model": {"precision": "nf4"}, "optim": {"name": "adamw_8bit"},
        "adapter": {"r": 64},
    },
    "dpo full": {"kind": "dpo", **GPU, "adapter": {"kind": "none"}},
}  # fmt: skip


@pytest.mark.gpu
# torch 2.4's own checkpoint uses a name that torch 2.4 deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast:FutureWarning")
@pytest.mark.parametrize("variant", GPU_VARIANTS)
def test_on_a_gpu_crashed_twice_it_equals_a_straight_run(
    plan_of: Callable[..., Plan],
    train_run: TrainRun,
    crash_after: Callable[[int | None], None],
    variant: str,
) -> None:
    plan = plan_of(**GPU_VARIANTS[variant], max_steps=STEPS)
    straight, code = train_run(plan)
    assert code == 0, events.read(straight.events_path)[0][-2:]
    crash_after(2)
    run, _ = train_run(plan)
    crash_after(5)
    train_run(run, resume=True)
    crash_after(None)
    assert train_run(run, resume=True)[1] == 0
    assert ledger.first_difference(straight.ledger_path, run.ledger_path) is None
    assert fingerprint(run) == fingerprint(straight)


@pytest.mark.gpu
def test_on_a_gpu_fp16_lowers_its_loss_scale_until_gradients_fit(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "LossScaler", lambda: LossScaler(2.0**60))
    run, code = train_run(plan_of(**GPU_VARIANTS["sft fp16"], max_steps=60, save_every=60))
    assert code == 0
    steps = [event for event in events.read(run.events_path)[0] if event["kind"] == "step"]
    skipped = [event["skipped"] for event in steps]
    assert skipped[0]
    assert not all(skipped)
    state = json.loads((run.checkpoints_dir / "step-00000060" / "state.json").read_text())
    assert state["loss_scale"]["scale"] == 2.0 ** (60 - sum(skipped))


@pytest.mark.parametrize("variant", VARIANTS)
def test_crashed_after_every_step_it_equals_a_straight_run(
    plan_of: Callable[..., Plan],
    train_run: TrainRun,
    crash_after: Callable[[int | None], None],
    variant: str,
) -> None:
    """One run that crashes after step 1, 2, ... N; checkpoints are made every third step."""
    plan = plan_of(**VARIANTS[variant], max_steps=STEPS)
    straight, code = train_run(plan)
    assert code == 0
    crash_after(1)
    run, code = train_run(plan)
    assert code == 1
    for step in range(2, STEPS + 1):
        crash_after(step)
        assert train_run(run, resume=True)[1] == 1
    crash_after(None)
    assert train_run(run, resume=True)[1] == 0
    assert ledger.first_difference(straight.ledger_path, run.ledger_path) is None
    assert fingerprint(run) == fingerprint(straight)
    assert "export/adapter/adapter_model.safetensors" in fingerprint(run) or "full" in variant


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_run_equals_run(plan_of: Callable[..., Plan], train_run: TrainRun, kind: str) -> None:
    one, two = (train_run(plan_of(kind))[0] for _ in range(2))
    assert fingerprint(one) == fingerprint(two)
    other, _ = train_run(plan_of(kind, seed=1))
    assert fingerprint(other) != fingerprint(one)


def test_how_often_is_saved_and_evaluated_changes_no_bit(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    one, _ = train_run(plan_of("sft"))
    two, _ = train_run(plan_of("sft", save_every=1, eval_every=1, samples=1, keep=1))
    three, _ = train_run(plan_of("sft", held_out=False, eval_every=0))
    assert fingerprint(one) == fingerprint(two) == fingerprint(three)


def test_the_loss_falls(plan_of: Callable[..., Plan], train_run: TrainRun) -> None:
    run, _ = train_run(plan_of("sft", max_steps=40, batch_size=8, eval_every=0, save_every=40))
    records = ledger.read(run.ledger_path)
    first, last = (sum(r.loss for r in part) for part in (records[:5], records[-5:]))
    assert last < 0.96 * first  # random rows: they can only be learned by heart
    assert records[-1].lr < records[10].lr


# PEFT asks transformers 5 for a property under the name it had in 4.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_adapter_loads_in_peft_and_answers(
    plan_of: Callable[..., Plan], train_run: TrainRun, small_model: Path
) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run, _ = train_run(plan_of("sft"))
    adapter = run.export_dir / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    ids = tokenizer("w5 w6", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(ids).logits).all()


def test_a_full_fine_tune_loads_in_transformers(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    from transformers import AutoModelForCausalLM

    settings = {"adapter": {"kind": "none"}, "optim": {"learning_rate": 1e-3}}
    run, code = train_run(plan_of("sft", **settings, model={"precision": "bf16"}))
    assert code == 0
    assert json.loads((run.export_dir / "model" / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(run.export_dir / "model", dtype="auto")
    assert model.dtype == torch.bfloat16  # as the weights were asked for; the masters were fp32


def test_a_finished_run_resumed_exports_again(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    """What a kill between the last checkpoint and the export leaves."""
    run, _ = train_run(plan_of("sft"))
    before = fingerprint(run)
    (run.export_dir / "adapter" / "adapter_model.safetensors").unlink()
    assert train_run(run, resume=True)[1] == 0
    assert fingerprint(run) == before


def test_a_signal_during_the_reference_pass_leaves_before_the_first_step(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.precomputed

    def hit(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(build, "precomputed", hit)
    run, code = train_run(plan_of(**VARIANTS["dpo full"]))
    assert code == 130
    assert not list(run.checkpoints_dir.iterdir())
    monkeypatch.undo()
    assert train_run(run, resume=True)[1] == 0


def test_token_totals_survive_a_resume(
    plan_of: Callable[..., Plan], train_run: TrainRun, crash_after: Callable[[int | None], None]
) -> None:
    def totals(run: Run) -> list[tuple[int, int, int]]:
        found = [e for e in events.read(run.events_path)[0] if e["kind"] == "step"]
        return sorted({(e["step"], e["tokens_total"], e["trained_total"]) for e in found})

    straight, _ = train_run(plan_of("sft"))
    crash_after(5)
    run, _ = train_run(plan_of("sft"))
    crash_after(None)
    train_run(run, resume=True)
    assert totals(run) == totals(straight)


def test_a_lost_ledger_is_said(
    plan_of: Callable[..., Plan], train_run: TrainRun, crash_after: Callable[[int | None], None]
) -> None:
    crash_after(5)
    run, _ = train_run(plan_of("sft"))
    crash_after(None)
    run.ledger_path.unlink()
    assert train_run(run, resume=True)[1] == 0
    warnings = [e["message"] for e in events.read(run.events_path)[0] if e["kind"] == "warning"]
    assert any("ledger lost the records after step 0" in message for message in warnings)


@pytest.mark.parametrize("setting", ["chatml", "absent.jinja"])
def test_the_template_that_was_trained_with_is_exported(
    plan_of: Callable[..., Plan], train_run: TrainRun, setting: str
) -> None:
    from transformers import AutoTokenizer

    plan = plan_of("sft", max_steps=1, data={"chat_template": setting})
    data = dataclasses.replace(plan.facts.data, template="said")
    run, code = train_run(
        dataclasses.replace(plan, facts=dataclasses.replace(plan.facts, data=data))
    )
    assert code == 0
    template = AutoTokenizer.from_pretrained(run.export_dir / "adapter").chat_template
    warnings = [e["message"] for e in events.read(run.events_path)[0] if e["kind"] == "warning"]
    if setting == "chatml":
        assert "im_start" in template
        assert not warnings
    else:
        assert template is None
        assert "keeps its own chat template" in warnings[0]


def test_estimated_steps_that_turn_out_otherwise_are_said(
    plan_of: Callable[..., Plan], train_run: TrainRun
) -> None:
    plan = dataclasses.replace(plan_of("sft"), steps=99)
    run, code = train_run(plan)
    assert code == 0
    said = [e["message"] for e in events.read(run.events_path)[0] if e["kind"] == "warning"]
    assert said == ["8 steps instead of the 99 that were estimated"]
    assert run.status().steps == STEPS


def _chosen(plan: Plan) -> Plan:
    """The plan as if its checkpointing had been chosen for the person."""
    decision = Decision(plan.config.memory.checkpointing, "it fits")
    return dataclasses.replace(plan, decisions={**plan.decisions, "memory.checkpointing": decision})


def _too_large(monkeypatch: pytest.MonkeyPatch, times: int) -> list[Any]:
    """The first `times` rehearsals run out of memory; the schedules that they saw."""
    seen: list[Any] = []

    def rehearse(model: Any, *_: Any) -> None:
        seen.append(model.schedule)
        if len(seen) <= times:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    return seen


def test_out_of_memory_is_planned_once_more_with_the_same_bits(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _chosen(plan_of("sft", max_steps=2))
    straight, _ = train_run(plan)
    seen = _too_large(monkeypatch, 1)
    run, code = train_run(plan)
    assert code == 0
    assert len(seen) == 2
    assert seen[1] != seen[0]
    assert fingerprint(run) == fingerprint(straight)
    text = run.events_path.read_text()
    assert "ran out of memory (CUDA out of memory. Tried to allocate 2 GiB.)" in text


def test_out_of_memory_twice_says_what_to_change(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _too_large(monkeypatch, 2)
    run, code = train_run(_chosen(plan_of("sft", max_steps=2)))
    assert (code, len(seen)) == (3, 2)
    text = run.events_path.read_text()
    assert "train.micro_batch_size: 1" in text
    assert "there is no checkpoint" in text


def test_out_of_memory_later_names_the_checkpoint(
    plan_of: Callable[..., Plan], train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = build.Sft.loss, []

    def loss(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return real(*arguments)

    monkeypatch.setattr(build.Sft, "loss", loss)
    plan = plan_of("sft", max_steps=6, save_every=1, held_out=False)
    run, code = train_run(plan)
    assert code == 3
    assert "the last checkpoint is step-0000000" in run.events_path.read_text()
    monkeypatch.undo()
    assert train_run(run, resume=True)[1] == 0
