"""cuDNN's forward: which batches it is preferred for, and that it feeds our backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_formula import NAMES, tensors, truth
from torch import Tensor

from ftlab_kernels import attention_library, tuning
from ftlab_kernels.attention import operators
from ftlab_kernels.attention_layout import Layout, layout
from ftlab_kernels.attention_library import REASON, library_forward, preferred
from ftlab_kernels.reference.attention import attention as reference

BF16 = torch.bfloat16
EQUAL = layout([0, 1024, 2048])


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "capability", lambda of: 90)
    monkeypatch.setattr(attention_library, "LEAST_TORCH", (2, 0))


@pytest.mark.usefixtures("h100")
def test_equal_lengths_are_given_to_it() -> None:
    assert preferred(EQUAL, 128, BF16, None, None) == REASON
    assert preferred(EQUAL, 128, torch.float16, 1024, None) == REASON


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize(
    ("plan", "head_dim", "dtype", "window", "softcap"),
    [
        (layout([0, 1024, 2000]), 128, BF16, None, None),
        (layout([0, 1024, 2048], prefix=[-1, 0]), 128, BF16, None, None),
        (layout([0, 1024], capacity=2), 128, BF16, None, None),
        (layout([0, 64]), 128, BF16, None, None),
        (EQUAL, 64, BF16, None, None),
        (EQUAL, 256, BF16, None, None),
        (EQUAL, 128, torch.float32, None, None),
        (EQUAL, 128, BF16, 1023, None),
        (EQUAL, 128, BF16, None, 50.0),
    ],
)
def test_everything_else_is_not(
    plan: Layout, head_dim: int, dtype: torch.dtype, window: int | None, softcap: float | None
) -> None:
    assert preferred(plan, head_dim, dtype, window, softcap) is None


def test_other_devices_keep_the_kernel() -> None:
    assert preferred(EQUAL, 128, BF16, None, None) is None


@pytest.mark.parametrize(
    ("plan", "window", "softcap"),
    [(layout([0, 4, 9]), None, None), (layout([0, 9]), 8, None), (layout([0, 9]), None, 2.0)],
)
def test_what_it_cannot_take_is_refused(
    plan: Layout, window: int | None, softcap: float | None
) -> None:
    x = torch.zeros(9, 1, 64)
    with pytest.raises(ValueError, match="equally long"):
        library_forward(x, x, x, plan, scale=1.0, window=window, softcap=softcap)


@pytest.mark.parametrize(("most", "parts"), [(8, 1), (7, 2), (4, 2), (3, 4), (2, 4), (1, 8)])
def test_large_outputs_come_in_parts(
    most: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads at a time, as the memory plan counts them; each with its own keys and values."""
    called = []

    def cudnn(q: Tensor, k: Tensor, v: Tensor, *_: Any, scale: float) -> tuple[Tensor, Tensor]:
        called.append(q.shape[1])
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        scores = (scale * q @ k.transpose(2, 3)).masked_fill(
            ~torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(), float("-inf")
        )
        return scores.softmax(-1) @ v, scores.logsumexp(-1, keepdim=True)

    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_cudnn_attention", cudnn)
    plan = layout([0, 16, 32])
    q, k, v, _ = tensors(plan, 8, 2, 16, torch.float32)
    monkeypatch.setattr(attention_library, "ROOM", most * 32 * 16 * 4)
    out, lse = library_forward(q, k, v, plan, scale=0.25)
    assert len(called) == parts
    assert max(called) <= most
    expected = reference(q, k, v, plan, 0.25)
    torch.testing.assert_close(out, expected)
    assert lse.shape == (8, 32)
    monkeypatch.setattr(attention_library, "ROOM", 1 << 30)
    torch.testing.assert_close(lse, library_forward(q, k, v, plan, scale=0.25)[1])


@pytest.mark.gpu
def test_it_feeds_our_backward_and_repeats() -> None:
    plan = layout([0, 640, 1280], "cuda")
    q, k, v, grad = tensors(plan, 8, 2, 128, BF16)
    ops = operators(plan, 8, 2, 128, BF16)
    if ops.name != "library":
        pytest.skip(f"not measured on this device: {ops.name}")
    rule = {"scale": 128**-0.5}
    results = []
    for _ in range(3):
        out, lse = ops.forward(q, k, v, plan, **rule)
        results.append((out, *ops.backward(grad, q, k, v, out, lse, plan, **rule)))
    expected = truth(q, k, v, grad, plan, 128**-0.5, None, None)
    for i, name in enumerate(NAMES):
        ours = results[0][i]
        assert all(torch.equal(ours, other[i]) for other in results), name
        assert (ours.double() - expected[name]).norm() < 8e-3 * expected[name].norm(), name
