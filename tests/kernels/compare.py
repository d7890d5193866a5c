"""One table of tolerances, and comparisons of outputs and gradients by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
ULPS = {  # of the largest magnitude in a row of the truth: (output, gradient)
    "column_sum": (4, 4),
    "geglu": (1, 1),
    "global_norm_clip": (4, 4),
    "layer_norm": (2, 2),
    "rms_norm": (2, 2),
    "rope": (1, 1),
    "rope_norm": (4, 3),
    "swiglu": (1, 1),
}
FP32_ULPS = 32  # sums in another order


def close(op: str, name: str, got: Tensor, truth: Tensor, *, gradient: bool = False) -> None:
    """`got` lies within the op's rounding of the fp64 `truth`; AssertionError says where not."""
    assert got.shape == truth.shape, f"{op} {name}: {tuple(got.shape)} is not {tuple(truth.shape)}"
    ulps = FP32_ULPS if got.dtype is torch.float32 else ULPS[op][gradient]
    if got.dtype is torch.bfloat16 and got.device.type == "cpu":
        ulps *= 2  # triton's interpreter cuts bfloat16 off instead of rounding it
    truth = truth.double()
    scale = truth.abs().amax(-1, keepdim=True) if truth.dim() else truth.abs()
    apart = (got.double() - truth).abs()
    allowed = ulps * EPSILON[got.dtype] * scale.clamp(min=1e-6)
    wrong = ~(apart <= allowed)
    assert not wrong.any(), (
        f"{op} {name}: {int(wrong.sum())} of {wrong.numel()} differ, by at most "
        f"{apart.nan_to_num(torch.inf).max().item():.3g}; first at {wrong.nonzero()[0].tolist()}"
    )


def all_close(
    op: str, got: Mapping[str, Tensor], truth: Mapping[str, Tensor], *, gradient: bool = False
) -> None:
    """Every tensor by its name."""
    assert list(got) == list(truth)
    for name in got:
        close(op, name, got[name], truth[name], gradient=gradient)


def seeded(*shape: int, dtype: torch.dtype, device: str, seed: int = 0) -> Tensor:
    """Normal values, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).to(device)
