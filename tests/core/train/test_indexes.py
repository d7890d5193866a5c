"""Batches are decided once, checked against the plan, and decided alike when they are lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab.data.batches import BatchIndex
from ftlab.errors import EnvironmentUnfit
from ftlab.plan import Plan
from ftlab.train.indexes import evaluation_batches, open_store, training_batches


def test_second_time_reads_what_the_first_wrote(
    plan_of: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = training_batches(plan_of("sft"), tmp_path)
    monkeypatch.setattr("ftlab.train.indexes.build", None)
    assert training_batches(plan_of("sft"), tmp_path).sha256 == first.sha256
    assert first.steps == 8


@pytest.mark.parametrize("harm", ["rows.npy", "index.json"])
def test_a_damaged_index_is_decided_again_alike(
    plan_of: Callable[..., Plan], tmp_path: Path, harm: str
) -> None:
    first = training_batches(plan_of("dpo"), tmp_path)
    (tmp_path / harm).write_bytes(b"damaged")
    again = training_batches(plan_of("dpo"), tmp_path)
    assert again.sha256 == first.sha256
    assert BatchIndex.open(tmp_path, again.store).sha256 == first.sha256


def test_other_tokens_than_planned_are_refused(plan_of: Callable[..., Plan]) -> None:
    data = dataclasses.replace(plan_of("sft").facts.data, sha256="0" * 64)
    with pytest.raises(EnvironmentUnfit, match="not those that were planned"):
        open_store(data)


def test_evaluation_is_every_row_once_in_order(plan_of: Callable[..., Plan]) -> None:
    batches = evaluation_batches(plan_of("sft"))
    assert batches is not None
    rows = [row for step in batches for micro in step.micro for row in micro.rows.tolist()]
    assert rows == list(range(10))
    assert evaluation_batches(plan_of("sft", held_out=False)) is None
