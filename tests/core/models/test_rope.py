"""Rotary frequencies: what the published schemes promise (transformers' own: test_engine)."""

from __future__ import annotations

import math

import torch

from ftlab.models.rope import inverse_frequencies, tables
from ftlab.models.spec import RopeSpec


def plain(dim: int = 16, theta: float = 10_000.0) -> torch.Tensor:
    return theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=0)


def test_default_and_linear() -> None:
    close(inverse_frequencies(RopeSpec(dim=16), 5), plain())
    close(inverse_frequencies(RopeSpec(dim=16, kind="linear", factor=4.0), 5), plain() / 4)


def test_dynamic_grows_with_the_batch_and_keeps_no_memory() -> None:
    rope = RopeSpec(dim=16, kind="dynamic", factor=2.0, max_positions=32)
    close(inverse_frequencies(rope, 32), plain())
    base = 10_000.0 * (2.0 * 64 / 32 - 1) ** (16 / 14)
    close(inverse_frequencies(rope, 64), plain(theta=base))
    close(inverse_frequencies(rope, 10), plain())


def test_longrope_switches_at_the_original_length() -> None:
    rope = RopeSpec(
        dim=4, kind="longrope", original_max_positions=8, short_factor=(1, 2), long_factor=(3, 4)
    )
    close(inverse_frequencies(rope, 8), plain(4) / torch.tensor([1, 2]))
    close(inverse_frequencies(rope, 9), plain(4) / torch.tensor([3, 4]))


def test_llama3_keeps_short_and_divides_long_wavelengths() -> None:
    rope = RopeSpec(dim=64, kind="llama3", factor=8.0, original_max_positions=256)
    ours, wavelengths = inverse_frequencies(rope, 1).double(), 2 * math.pi / plain(64)
    short, long = wavelengths < 64, wavelengths > 256
    close(ours[short], plain(64)[short])
    close(ours[long], plain(64)[long] / 8)
    between = ~short & ~long
    assert between.any()
    ratio = (ours / plain(64))[between]
    assert bool(((ratio > 1 / 8) & (ratio < 1)).all())


def test_yarn_keeps_fast_and_divides_slow_dimensions() -> None:
    rope = RopeSpec(dim=64, kind="yarn", factor=4.0, original_max_positions=64)
    ratio = inverse_frequencies(rope, 1).double() / plain(64)
    torch.testing.assert_close(ratio[0], torch.tensor(1.0).double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(ratio[-1], torch.tensor(0.25).double(), rtol=1e-5, atol=0)
    assert bool((ratio.diff() <= 1e-6).all())


def test_tables_scale_and_round_once() -> None:
    rope = RopeSpec(dim=8, kind="yarn", factor=4.0, attention_scaling=1.25)
    positions = torch.tensor([0, 3, 0, 1])
    cos, sin = tables(rope, positions, 4, torch.bfloat16)
    assert cos.shape == sin.shape == (4, 4)
    angles = positions[:, None].float() * inverse_frequencies(rope, 4)
    assert torch.equal(cos, (angles.cos() * 1.25).to(torch.bfloat16))
    assert torch.equal(sin, (angles.sin() * 1.25).to(torch.bfloat16))
    assert torch.equal(cos[0], cos[2])
