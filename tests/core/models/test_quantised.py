"""Frozen bitsandbytes layers: the values bitsandbytes computes with, bound by value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ftlab.errors import EnvironmentUnfit
from ftlab.models.quantised import frozen_weight

bnb = pytest.importorskip("bitsandbytes")


def four_bit(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, torch.Tensor]:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = bnb.nn.Linear4bit(128, 64, bias=False, quant_type="nf4", compute_dtype=dtype)
    layer.weight = bnb.nn.Params4bit(weight, quant_type="nf4", module=layer)
    return layer.to("cpu"), weight


def test_four_bit_is_bitsandbytes_own_value() -> None:
    layer, weight = four_bit()
    frozen = frozen_weight("q_proj", layer)
    assert frozen is not None
    dense = frozen.dequantise(torch.float32)
    x = torch.randn(5, 128)
    torch.testing.assert_close(x @ dense.t(), layer(x), rtol=1e-4, atol=1e-4)
    assert (dense - weight).abs().max() < 0.16 * weight.abs().max()
    assert frozen.dequantise(torch.bfloat16).dtype == torch.bfloat16


def test_what_happens_to_the_module_later_does_not_matter() -> None:
    layer, _ = four_bit()
    frozen = frozen_weight("q_proj", layer)
    assert frozen is not None
    before = frozen.dequantise(torch.float32)
    layer.weight.quant_state.absmax = layer.weight.quant_state.absmax * 0
    assert torch.equal(frozen.dequantise(torch.float32), before)


def test_eight_bit_rows_keep_their_scale() -> None:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    layer = bnb.nn.Linear8bitLt(32, 16, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer = layer.to("cpu")
    frozen = frozen_weight("q_proj", layer)
    assert frozen is not None
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((frozen.dequantise(torch.float32) - weight).abs() / step).max() < 0.6


def test_ordinary_layers_are_none() -> None:
    assert frozen_weight("q_proj", nn.Linear(2, 2)) is None


def test_layers_without_quantised_data_are_refused_by_name() -> None:
    with pytest.raises(EnvironmentUnfit, match="q_proj is a 4-bit layer without quantised data"):
        frozen_weight("q_proj", bnb.nn.Linear4bit(8, 8))
    with pytest.raises(EnvironmentUnfit, match="q_proj is an 8-bit layer without"):
        frozen_weight("q_proj", bnb.nn.Linear8bitLt(8, 8, has_fp16_weights=False))


def test_repacked_layers_are_refused() -> None:
    layer, _ = four_bit()
    layer.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(EnvironmentUnfit, match="repacked"):
        frozen_weight("q_proj", layer)
