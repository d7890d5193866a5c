"""NF4 dequantisation, bit for bit as bitsandbytes does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ftlab_kernels.reference.nf4 import Nf4Weight, quantize_nf4

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


def assert_equal_but_for_ties(
    ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor
) -> None:
    """Where bitsandbytes uses AVX-512, its fp16 rounds ties away from zero; ours go to even.

    So they may differ, and only there: the fp32 product lies exactly between the two.
    """
    apart = ours != theirs
    middle = (ours.double() + theirs.double()) / 2
    assert torch.equal(middle[apart], exact.double()[apart])
    assert (theirs.abs() >= ours.abs())[apart].all()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 64), (96, 320), (1000, 64)])
def test_bit_equal_to_bitsandbytes(
    shape: tuple[int, int], dtype: torch.dtype, double: bool
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    weight_4bit = from_state(packed, state)
    ours = weight_4bit.dequantise(dtype)
    theirs = functional.dequantize_4bit(packed, state)
    assert ours.dtype == dtype
    if dtype is torch.float16:
        assert_equal_but_for_ties(ours, theirs, weight_4bit.dequantise(torch.float32))
    else:
        assert torch.equal(ours, theirs)
    assert (ours.float() - weight.float()).abs().max() < 0.16 * weight.float().abs().max()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 64), (96, 320), (1000, 64), (576, 1536)])
def test_the_quantiser_is_bitsandbytes_on_the_cpu(
    shape: tuple[int, int], dtype: torch.dtype, double: bool
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype) / 50
    weight[0] = 0
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    theirs, ours = from_state(packed, state), quantize_nf4(weight, double_quant=double)
    for name in ("packed", "code", "absmax", "absmax_code", "nested_absmax"):
        mine, expected = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (expected is None), name
        assert mine is None or torch.equal(mine, expected), name
    assert ours.offset == theirs.offset


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="blocksize is 64; it must be a power of two"):
        quantize_nf4(torch.zeros(3, 5))
