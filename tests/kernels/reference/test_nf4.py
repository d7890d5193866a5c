"""NF4 dequantisation, bit for bit as bitsandbytes does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ftlab_kernels.reference.nf4 import Nf4Weight

functional = pytest.importorskip("bitsandbytes.functional")


def from_state(packed: torch.Tensor, state: Any) -> Nf4Weight:
    nested = {}
    if state.nested:
        nested = {
            "absmax_code": state.state2.code,
            "nested_absmax": state.state2.absmax,
            "nested_blocksize": state.state2.blocksize,
            "offset": float(state.offset),
        }
    return Nf4Weight(
        packed=packed,
        shape=tuple(state.shape),
        code=state.code,
        absmax=state.absmax,
        blocksize=state.blocksize,
        **nested,
    )


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 64), (96, 320), (1000, 64)])
def test_bit_equal_to_bitsandbytes(
    shape: tuple[int, int], dtype: torch.dtype, double: bool
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    ours = from_state(packed, state).dequantise(dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours, functional.dequantize_4bit(packed, state))
    assert (ours.float() - weight.float()).abs().max() < 0.16 * weight.float().abs().max()
