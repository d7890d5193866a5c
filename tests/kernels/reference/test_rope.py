"""rope as a rotation in the plane: lengths, relative positions, and features that pass through."""

from __future__ import annotations

import torch

from ftlab_kernels.reference.rope import rope


def tables(positions: torch.Tensor, half: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = positions[:, None] * 0.7 ** torch.arange(half, dtype=torch.float64)
    return angles.cos(), angles.sin()


def test_equals_complex_multiplication() -> None:
    positions = torch.arange(9, dtype=torch.float64)
    q, k = torch.randn(9, 4, 12, dtype=torch.float64), torch.randn(9, 2, 12, dtype=torch.float64)
    cos, sin = tables(positions, 6)
    turned = rope(q, k, cos, sin)
    for x, y in zip((q, k), turned, strict=True):
        numbers = torch.complex(x[..., :6], x[..., 6:]) * torch.complex(cos, sin)[:, None]
        torch.testing.assert_close(y, torch.cat((numbers.real, numbers.imag), -1))


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 8, dtype=torch.float64)
    scores = []
    for start in (0, 5):
        places = torch.tensor([start + 3.0, start]).double()
        cos, sin = tables(places, 4)
        turned_q, _ = rope(q, k, cos[:1], sin[:1])
        _, turned_k = rope(q, k, cos[1:], sin[1:])
        scores.append((turned_q * turned_k).sum())
    torch.testing.assert_close(scores[0], scores[1])


def test_features_beyond_the_rotated_ones_pass() -> None:
    q, k = torch.randn(3, 2, 10), torch.randn(3, 1, 10)
    cos, sin = (t.float() for t in tables(torch.arange(3.0).double(), 3))
    turned, _ = rope(q, k, cos, sin)
    assert torch.equal(turned[..., 6:], q[..., 6:])
    assert not torch.equal(turned[1:, :, :6], q[1:, :, :6])


def test_backward_turns_back() -> None:
    q = torch.randn(5, 2, 8, dtype=torch.float64, requires_grad=True)
    cos, sin = tables(torch.arange(5).double(), 4)
    upstream = torch.randn_like(q)
    (grad,) = torch.autograd.grad(rope(q, q.detach(), cos, sin)[0], q, upstream)
    torch.testing.assert_close(grad, rope(upstream, upstream, cos, -sin)[0])
