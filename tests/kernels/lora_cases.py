"""Groups of projections for the tests of LoRA's kernels: awkward shapes, ranks and dropouts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ftlab_kernels.lora_layout import Columns, columns

SEEDS = (123456789012345, 5, 77)
CASES = {
    "one": ((8,), (0.0,), False, (30,)),
    "holes": ((16, 0, 20), (0.1, 0.0, 0.3), True, (30, 600, 17)),
    "wide": ((4, 33, 140), (0.0, 0.0, 0.0), True, (63, 5, 100)),
    "dropping": ((3, 70), (0.5, 0.2), False, (40, 30)),
}


@dataclass(frozen=True)
class Case:
    """Tensors of one group on one device."""

    columns: Columns
    rows: tuple[int, ...]
    x: Tensor
    dy: Tensor
    a: Tensor
    b: Tensor
    seeds: Tensor


def dtypes(device: str) -> list[torch.dtype]:
    """Triton 3.0's interpreter takes the bits of bf16 for whole numbers in a product."""
    halves = [torch.float16, torch.bfloat16] if device == "cuda" else [torch.float16]
    return [torch.float32, *halves]


def case(name: str, device: str, dtype: torch.dtype, tokens: int = 37, K: int = 50) -> Case:
    """The tensors of a case; x and dy are views with a longer row stride."""
    ranks, drops, bias, features = CASES[name]
    layout = columns(ranks, drops, bias)
    generator = torch.Generator().manual_seed(0)
    rows = [0]
    for count in features:
        rows.append(rows[-1] + count)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    a, b = torch.zeros(layout.pad, K), torch.zeros(rows[-1], layout.pad)
    for target, rank in enumerate(ranks):
        place, part = layout.of(target), slice(rows[target], rows[target + 1])
        a[place], b[part, place] = normal(rank, K), normal(features[target], rank)
    x, dy = normal(tokens, K + 7), normal(tokens, rows[-1] + 3)
    x, dy, a, b = (t.to(device=device, dtype=dtype) for t in (x, dy, a, b))
    seeds = torch.tensor(SEEDS[: len(ranks)], dtype=torch.int64, device=device)
    return Case(layout, tuple(rows), x[:, :K], dy[:, : rows[-1]], a, b, seeds)


def close(ours: Tensor, theirs: Tensor, dtype: torch.dtype, name: str) -> None:
    """Within the rounding of the dtype, relative to the largest value."""
    tolerance = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert torch.isfinite(ours).all(), name
    error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()
    assert error <= tolerance, f"{name}: {error:.2e} > {tolerance}"
