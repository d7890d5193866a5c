"""Preference accuracy and margin: an objective's own loss and metrics over fixed pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from ftlab.train.batch import to_device

if TYPE_CHECKING:
    from ftlab.data.batches import Step
    from ftlab.models.engine import Decoder
    from ftlab.train.objectives import Objective


def preference(model: Decoder, objective: Objective, steps: Iterable[Step]) -> dict[str, float]:
    """Mean loss and metrics of `objective` over every pair of `steps`, sums kept in fp64.

    Returns:
        {"loss": ..., "rewards/accuracies": ..., ...}, names as in training.
    Raises:
        ValueError: no pairs.
    """
    sums: list[list[float]] = []
    units = 0
    model.eval_mode()
    with torch.no_grad():
        for step in steps:
            units += objective.units(step)
            for micro in step.micro:
                loss, metrics = objective.loss(model, to_device(micro, model.device), None)
                sums.append(torch.stack([loss, *metrics]).double().tolist())
    if not units:
        raise ValueError("preference accuracy needs at least one pair")
    totals = [math.fsum(column) / units for column in zip(*sums, strict=True)]
    return dict(zip(("loss", *objective.metrics), totals, strict=True))
