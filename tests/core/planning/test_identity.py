"""The hash of a plan changes with what defines the result, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab.plan import Plan
from ftlab.planning.identity import BY_CONTENT, HARMLESS
from ftlab.schema import settings

Resolve = Callable[..., Plan]
EVAL = ["data.eval_fraction=0.05"]


@pytest.mark.parametrize(
    "override",
    ["train.log_every=5", "train.eval_every=7", "train.save_every=7", "train.keep=3",
     "train.samples=1", "memory.budget=17GiB"],
)  # fmt: skip
def test_harmless_settings(resolve: Resolve, override: str) -> None:
    plain = resolve(EVAL, evaluation={})
    assert resolve([*EVAL, override], evaluation={}).hash == plain.hash


@pytest.mark.parametrize(
    "override",
    ["train.seed=1", "train.batch_size=8", "optim.learning_rate=1e-4", "adapter.r=8",
     "model.precision=bf16", "train.epochs=2", "data.packing=off", "train.micro_batch_size=2",
     "memory.checkpointing=on", "model.max_length=640", "optim.schedule=cosine"],
)  # fmt: skip
def test_settings_that_define_the_result(resolve: Resolve, override: str) -> None:
    assert resolve([override]).hash != resolve().hash


def test_data_and_model_count_by_content(resolve: Resolve) -> None:
    plain = resolve()
    assert resolve(data={"sha256": "x" * 64}).hash != plain.hash
    assert resolve(hashes={"config": "a", "weights": "z"}).hash != plain.hash
    assert resolve(["data.source=elsewhere.jsonl"], name="/moved/model").hash == plain.hash
    unknown = resolve(hashes={"config": "a"})
    assert resolve(hashes={"config": "a"}, revision="other").hash != unknown.hash


def test_the_device_counts_and_free_memory_does_not(resolve: Resolve) -> None:
    assert resolve(gpus=("h100",)).hash != resolve().hash
    assert resolve(machine={"memory_free_bytes": 19 << 30}).hash == resolve().hash


def test_the_lists_name_settings_that_exist() -> None:
    assert {setting.path for setting in settings()} >= HARMLESS | BY_CONTENT
