"""attention against the plain formula sequence by sequence, gradients included."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ftlab_kernels.reference.attention import Layout, attention, layout, padded
from ftlab_kernels.reference.block_attention import BLOCK

PACKS = {
    "one": [63],
    "equal": [9, 9, 9],
    "short": [3, 1, 17, 40, 5],
    "mixed": [100, 4, 70, 300, 64, 99, 1],
}


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: list[int],
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Dense scores of each sequence, key heads repeated."""
    outputs = []
    for a, b in pairwise([0, *torch.tensor(lengths).cumsum(0).tolist()]):
        repeats = q.shape[1] // k.shape[1]
        queries = q[a:b].transpose(0, 1)
        keys, values = (x[a:b].transpose(0, 1).repeat_interleave(repeats, 0) for x in (k, v))
        scores = queries @ keys.transpose(1, 2) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        distance = torch.arange(b - a)[:, None] - torch.arange(b - a)
        hidden = (distance < 0) | (distance >= (window or b))
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        outputs.append((weights @ values).transpose(0, 1))
    return torch.cat(outputs)


def heads(total: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(total, n, 10, dtype=torch.float64, generator=generator) for n in (6, 2, 2)]
    q, k, v = (x.to(dtype).requires_grad_() for x in made)
    return q, k, v


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 1.5), (7, 0.5)])
def test_equals_the_formula_with_gradients(
    pack: str, window: int | None, softcap: float | None
) -> None:
    lengths = PACKS[pack]
    q, k, v = heads(sum(lengths))
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    ours = attention(q, k, v, bounds, 0.4, window, softcap)
    theirs = plain(q, k, v, lengths, 0.4, window, softcap)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (q, k, v), upstream),
        torch.autograd.grad(theirs, (q, k, v), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (50, None), (None, 3.0)])
def test_longer_than_a_block_of_queries(window: int | None, softcap: float | None) -> None:
    lengths = [BLOCK + 63, 2 * BLOCK]
    q, k, v = heads(sum(lengths))
    ours = attention(q, k, v, [0, lengths[0], sum(lengths)], 0.3, window, softcap)
    torch.testing.assert_close(ours, plain(q, k, v, lengths, 0.3, window, softcap))


def test_half_precision_is_rounded_once() -> None:
    q, k, v = heads(40, torch.bfloat16)
    ours = attention(q, k, v, [0, 40], 0.3, None, 2.0)
    truth = plain(q.double(), k.double(), v.double(), [40], 0.3, None, 2.0)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), truth, rtol=2**-8, atol=2**-9)


def test_padding_is_little_and_covers_every_token() -> None:
    lengths = [100, 4, 70, 300, 64, 99, 1]
    plan = padded(layout([0, *torch.tensor(lengths).cumsum(0).tolist()]))
    (places,) = plan.places
    assert plan.tokens is not None
    assert plan.groups == ((1, 300), (2, 100), (2, 70), (2, 4))
    assert torch.equal(plan.tokens[places], torch.arange(sum(lengths)))
    assert int((plan.tokens == sum(lengths)).sum()) == len(plan.tokens) - sum(lengths)


def test_a_prompt_is_repeated_before_each_continuation() -> None:
    plan = padded(layout([0, 4, 6, 9, 12], prefix=[-1, 0, 0, -1]))
    assert plan.tokens is not None
    assert plan.groups == ((3, 7),)
    rows = plan.tokens.view(3, 7).tolist()
    assert rows == [[0, 1, 2, 3, 6, 7, 8], [0, 1, 2, 3, 4, 5, 12], [9, 10, 11, 12, 12, 12, 12]]
    first, second = plan.places
    assert second.tolist() == [7, 8, 9, 10, *[21] * 8]
    assert torch.equal(plan.tokens[first], torch.arange(12))


def test_layout_is_taken_instead_of_boundaries() -> None:
    q, k, v = heads(30)
    plan = layout(torch.tensor([0, 10, 30], dtype=torch.int32))
    assert isinstance(plan, Layout)
    assert torch.equal(attention(q, k, v, plan, 0.3), attention(q, k, v, [0, 10, 30], 0.3))


@pytest.mark.parametrize("bounds", [[0], [1, 3], [0, 3, 3]])
def test_bad_boundaries_are_refused(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="cu_seqlens"):
        layout(bounds)
