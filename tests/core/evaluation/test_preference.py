"""Preference evaluation is the objective's own loss and metrics, averaged over pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ftlab.data.batches import MicroBatch, Step
from ftlab.evaluation.preference import preference
from ftlab.models.attach import attach
from ftlab.train.batch import to_device
from ftlab.train.objectives.dpo import Dpo


def micro(pairs: int, seed: int) -> MicroBatch:
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(5, 64, 8 * pairs)
    labels = np.where(np.arange(len(ids)) % 4 == 3, -100, np.roll(ids, -1))
    return MicroBatch(
        ids, np.arange(len(ids)) % 4, np.arange(0, len(ids) + 1, 4, dtype=np.int32), labels,
        np.arange(pairs), 2,
    )  # fmt: skip


def test_is_the_mean_over_pairs_not_over_batches(loaded: tuple[Any, Any]) -> None:
    decoder = attach(loaded[0])
    steps = [Step(0, 0, 0, 9, [micro(1, 1), micro(3, 2)]), Step(1, 0, 0, 9, [micro(2, 3)])]

    def reference(model: Any, batch: Any) -> Any:
        import torch

        return torch.tensor([[-9.0, -12.0]] * len(batch.rows))

    objective = Dpo(0.5, reference)
    found = preference(decoder, objective, steps)
    sums = [
        objective.loss(decoder, to_device(m, "cpu"), None) for step in steps for m in step.micro
    ]
    assert found["loss"] == pytest.approx(sum(loss.item() for loss, _ in sums) / 6, rel=1e-6)
    for i, name in enumerate(objective.metrics):
        expected = sum(metrics[i].item() for _, metrics in sums) / 6
        assert found[name] == pytest.approx(expected, rel=1e-6), name


def test_no_pairs_is_an_error(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        preference(attach(loaded[0]), Dpo(0.1, lambda model, batch: None), [])  # type: ignore[arg-type, return-value]
