"""Shape classes, padded head dims, and which tensors a descriptor can stand for."""

from __future__ import annotations

import json

import pytest
import torch
import triton.language as tl

from ftlab_kernels import attention_config, tuning
from ftlab_kernels.attention_config import describable, padded, shape_class
from ftlab_kernels.attention_layout import layout

OPS = ("attention_forward", "attention_backward_query", "attention_backward_key")


@pytest.mark.parametrize(
    ("head_dim", "columns", "expected"),
    [(8, 16, "d64"), (64, 64, "d64"), (80, 128, "d128"), (96, 128, "d128"), (256, 256, "d256")],
)
def test_head_dims_are_padded_to_a_class(head_dim: int, columns: int, expected: str) -> None:
    assert padded(head_dim) == columns
    assert shape_class(head_dim, torch.bfloat16) == expected
    assert shape_class(head_dim, torch.float32) == f"{expected}_fp32"


@pytest.mark.parametrize("op", OPS)
def test_every_class_has_a_configuration_for_every_card(op: str) -> None:
    fields = {"BLOCK_M", "BLOCK_N", "TMA", "num_warps", "num_stages"}
    if op == "attention_backward_key":
        fields.add("EARLY")
    classes = [f"d{n}{wide}" for n in (64, 128, 256) for wide in ("", "_fp32")]
    assert set(classes) <= set(tuning.table(op))
    classes += [name for name in tuning.table(op) if name not in classes]
    for capability in (0, 70, 75, 80, 86, 89, 90):
        for name in classes:
            config = tuning.lookup(op, name, capability)
            assert set(config) == fields
            assert config["TMA"] is False or capability == 90
    assert json.dumps(tuning.table(op))


def test_what_a_descriptor_can_stand_for() -> None:
    possible = hasattr(tl, "make_tensor_descriptor")
    fused = torch.zeros(10, 6, 64, dtype=torch.bfloat16)
    assert describable([fused[:, :2], fused[:, 2:]]) is possible
    assert not describable([torch.zeros(10, 2, 80, dtype=torch.bfloat16)])  # columns beyond a head
    assert not describable([torch.zeros(10, 2, 65, dtype=torch.bfloat16)[..., 1:]])  # alignment
    assert not describable(
        [fused.flatten()[:-6].view(-1)[: 9 * 390].view(9, 390)[:, 4:68][:, None]]
    )


@pytest.mark.parametrize("possible", [False, True])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_long_segments_with_descriptors_or_as_all_others(
    monkeypatch: pytest.MonkeyPatch, possible: bool, softcap: float | None
) -> None:
    monkeypatch.setattr(tuning, "capability", lambda of: 90)
    monkeypatch.setattr(attention_config, "describable", lambda tensors: possible)
    monkeypatch.setattr("triton.set_allocator", lambda function: None, raising=False)
    q = torch.empty(5000, 1, 128, dtype=torch.bfloat16)
    plan = layout([0, 5000])
    call = attention_config.facts(q, q, plan, 1.0, None, softcap, [q])
    got = attention_config.lookup("attention_forward", q, plan, [q], call)
    table = tuning.table("attention_forward")
    assert table["d128_long"]["90"]["TMA"]
    assert got == table["d128_long" if possible and softcap is None else "d128"]["90"]
