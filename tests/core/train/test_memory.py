"""Running out of memory says what to change; the largest micro-batch is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.data.batches import build
from ftlab.data.tokens import TokenStore
from ftlab.errors import EnvironmentUnfit
from ftlab.models.engine import Decoder
from ftlab.plan import Plan
from ftlab.train.memory import clear_memory_errors, largest_micro_batch, peak_bytes, rehearse
from ftlab.train.objectives.sft import Sft


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError("out of memory"),
    ],
)
def test_out_of_memory_says_what_to_change(plan_of: Callable[..., Plan], error: Exception) -> None:
    with pytest.raises(EnvironmentUnfit) as caught, clear_memory_errors(plan_of("sft")):
        raise error
    message = str(caught.value)
    assert "out of memory on cpu" in message
    assert "memory.checkpointing: on" in message
    assert "train.micro_batch_size: 1 (is 2; the result stays the same)" in message
    assert "model.precision: nf4" in message
    assert "model.max_length below 32" in message


def test_advice_leaves_out_what_is_done_already(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("sft", micro_batch_size=1, memory={"checkpointing": "on"},
                   model={"precision": "nf4"})  # fmt: skip
    with pytest.raises(EnvironmentUnfit) as caught, clear_memory_errors(plan):
        raise MemoryError("out of memory")
    message = str(caught.value)
    assert not any(word in message for word in ("checkpointing", "micro_batch_size", "nf4"))


def test_other_errors_pass(plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(RuntimeError, match="shape"), clear_memory_errors(plan_of("sft")):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize("packing", [False, True])
def test_largest_micro_batch_is_found(stores: dict[str, TokenStore], packing: bool) -> None:
    settings: dict[str, Any] = {"max_length": 9, "overlong": "truncate", "packing": packing}
    index = build(stores["dpo"], seed=1, epochs=1, max_steps=None, batch_size=5,
                  micro_batch_size=2, **settings)  # fmt: skip
    step, micro = largest_micro_batch(index)
    sizes = [len(m.input_ids) for s in index for m in s.micro]
    assert len(index.step(step).micro[micro].input_ids) == max(sizes)


def test_peak_is_of_this_process() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert peak_bytes(torch.device("cpu")) >= pages * os.sysconf("SC_PAGE_SIZE") // 2


def test_no_rehearsal_on_a_cpu(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    rehearse(small_decoder(), Sft(), None)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_rehearsal_leaves_no_gradient(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder = small_decoder()
    decoder.model.cuda()
    index = build(stores["sft"], seed=1, epochs=1, max_steps=None, batch_size=5,
                  micro_batch_size=2, max_length=32, overlong="truncate",
                  packing=False)  # fmt: skip
    rehearse(decoder, Sft(), index)
    assert all(p.grad is None for p in decoder.trainable().values())
    assert peak_bytes(decoder.device) > 0
