"""A run of several processes: the bits of one, exact resume, and one end whatever happens."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ftlab import control, events, ledger, manifest
from ftlab.errors import EnvironmentUnfit
from ftlab.plan import Plan
from ftlab.run import Run
from ftlab.train import checkpoint
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import set_learning_rate
from ftlab.train.ranks import member, together

Attempt = Callable[..., Any]
TrainRun = Callable[..., tuple[Run, int]]
Plans = Callable[..., Plan]


def said(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run.events_path)[0] if event["kind"] == kind]


def ended(run: Run) -> tuple[int, str, str]:
    found = run.exit()
    assert found is not None
    return found["code"], found["state"], found["reason"]


def same(a: Run, b: Run) -> None:
    assert ledger.first_difference(a.ledger_path, b.ledger_path) is None
    exported = [
        {file.name: file.read_bytes() for file in run.export_dir.rglob("*.safetensors")}
        for run in (a, b)
    ]
    assert exported[0] == exported[1]
    assert exported[0]


def only_rank(rank: int) -> bool:
    return os.environ.get("RANK") == str(rank)


@pytest.mark.parametrize("size", [2, 3])
def test_a_micro_batch_each_gives_the_bits_of_one_process(
    plan_of: Plans, train_run: TrainRun, attempt_ranks: Attempt, size: int
) -> None:
    """Two micro-batches a step: with three ranks one of them never has any."""
    plan = plan_of("sft", max_steps=6)
    alone, _ = train_run(plan)
    ranks = attempt_ranks(plan, size)
    assert ranks.end() == [0] * size
    same(alone, ranks.run)
    assert ended(ranks.run)[:2] == (0, "done")
    kinds = [[e["kind"] for e in events.read(run.events_path)[0]] for run in (alone, ranks.run)]
    assert kinds[0] == kinds[1]  # everything is said once
    assert [e["tokens"] for e in said(ranks.run, "step")] == [
        e["tokens"] for e in said(alone, "step")
    ]
    sealed = manifest.read(ranks.run)
    assert sealed is not None
    assert sealed["world_size"] == size


def test_full_dpo_with_references_made_once(
    plan_of: Plans, train_run: TrainRun, attempt_ranks: Attempt
) -> None:
    plan = plan_of("dpo", max_steps=4, adapter={"kind": "none", "lora_dropout": 0.0})
    alone, _ = train_run(plan)
    ranks = attempt_ranks(plan)
    assert ranks.end() == [0, 0]
    assert ledger.first_difference(alone.ledger_path, ranks.run.ledger_path) is None


def test_killed_resumed_and_stopped_it_repeats_a_straight_run(
    plan_of: Plans, train_run: TrainRun, attempt_ranks: Attempt
) -> None:
    """Four micro-batches of a step on two ranks: sums of sums, so near one process, not equal."""
    plan = plan_of("sft", max_steps=9, batch_size=8)
    straight = attempt_ranks(plan)
    assert straight.end() == [0, 0]
    alone, _ = train_run(plan)
    losses = [[r.loss for r in ledger.read(run.ledger_path)] for run in (alone, straight.run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    ranks = attempt_ranks(plan)
    ranks.wait_for('"kind": "checkpoint"')
    os.kill(ranks.pids[1], signal.SIGKILL)
    assert ranks.end() == [1, -signal.SIGKILL]
    code, state, reason = ended(ranks.run)
    assert (code, state) == (1, "failed")
    assert f"rank 1: process {ranks.pids[1]} was killed" in reason

    stopped = attempt_ranks(ranks.run, resume=True)
    control.request(ranks.run, "stop")
    assert stopped.end() == [0, 0]
    assert ended(ranks.run)[:2] == (130, "stopped")
    found, _ = checkpoint.newest(ranks.run.checkpoints_dir)
    assert found is not None
    assert found.step == ranks.run.exit()["step"]  # type: ignore[index]
    assert [e["step"] for e in said(ranks.run, "checkpoint")].count(found.step) == 1

    assert attempt_ranks(ranks.run, resume=True).end() == [0, 0]
    same(straight.run, ranks.run)


def test_sigterm_saves_once_and_all_leave(plan_of: Plans, attempt_ranks: Attempt) -> None:
    ranks = attempt_ranks(plan_of("sft", max_steps=400, save_every=400, eval_every=0))
    ranks.wait_for('"kind": "step"')
    os.kill(ranks.pids[0], signal.SIGTERM)
    assert ranks.end() == [0, 0]
    assert ended(ranks.run)[1] == "stopped"
    assert len(said(ranks.run, "checkpoint")) == 1


def test_the_fault_of_a_rank_is_the_end_of_the_run(
    plan_of: Plans, attempt_ranks: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Sft.loss, []

    def failing(self: Sft, *arguments: Any) -> Any:
        calls.append(1)
        if only_rank(1) and len(calls) == 3:
            raise EnvironmentUnfit("the card fell out")
        return real(self, *arguments)

    monkeypatch.setattr(Sft, "loss", failing)
    ranks = attempt_ranks(plan_of("sft"))
    assert ranks.end() == [3, 3]
    assert ended(ranks.run) == (3, "failed", "rank 1: the card fell out")
    assert "the card fell out" in said(ranks.run, "error")[0]["message"]


def test_a_nan_of_any_rank_names_its_rows(
    plan_of: Plans, attempt_ranks: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sft.loss

    def poisoned(self: Sft, *arguments: Any) -> Any:
        loss, metrics = real(self, *arguments)
        return (loss * float("nan") if only_rank(1) else loss), metrics

    monkeypatch.setattr(Sft, "loss", poisoned)
    ranks = attempt_ranks(plan_of("sft", held_out=False, eval_every=0))
    assert ranks.end()[0] == 1
    code, _, reason = ended(ranks.run)
    assert code == 1
    assert "the loss of step 1" in reason
    assert not ledger.read(ranks.run.ledger_path)


def test_ranks_that_diverge_are_found(
    plan_of: Plans, attempt_ranks: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(optimizer: torch.optim.Optimizer, rate: float) -> None:
        set_learning_rate(optimizer, rate * (1 + 1e-6 * only_rank(1)))

    monkeypatch.setattr("ftlab.train.loop.set_learning_rate", faulty)
    monkeypatch.setattr(together, "LOOK_EVERY", 2)
    ranks = attempt_ranks(plan_of("sft", held_out=False, eval_every=0))
    assert ranks.end()[0] == 1
    assert "after step 2 rank 1 has other weights than rank 0" in ended(ranks.run)[2]


def test_each_rank_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, rank, own in (("4,5", 1, "5"), ("GPU-a,GPU-b", 0, "GPU-a"), ("", 1, "")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        member.see_one_gpu(rank)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == own
