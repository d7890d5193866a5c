"""The engine's view of single modules: adapters on and off, dropout by place, casts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ftlab.lora.layers import LoraTensors
from ftlab.models.layers import Dense, Embedding, Lookup, Mode, Norm, Projection
from ftlab.models.rng import StepRng
from ftlab_kernels.reference.dropout import dropout

OFF, ON = Mode(None, adapter=False), Mode(None, adapter=True)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))))


def projection(**changes: Any) -> Projection:
    lora = LoraTensors(parameter(2, 5), parameter(4, 2), 0.5, 0.0, None)
    dense = Dense(parameter(4, 5), None)
    values: dict[str, Any] = {"name": "p", "site": 3, "tuned": dense, "base": dense, "lora": lora}
    return Projection(**{**values, **changes})


def test_adapter_off_is_the_base() -> None:
    layer, x = projection(), torch.randn(3, 5)
    assert isinstance(layer.base.weight, torch.Tensor)
    plain = x @ layer.base.weight.t()
    assert torch.equal(layer(x, OFF), plain)
    assert layer.lora is not None
    torch.testing.assert_close(
        layer(x, ON), plain + 0.5 * (x @ layer.lora.a.t()) @ layer.lora.b.t()
    )


def test_base_bias_differs_where_the_bias_is_trained() -> None:
    weight = parameter(4, 5)
    layer = projection(tuned=Dense(weight, torch.ones(4)), base=Dense(weight, None), lora=None)
    x = torch.randn(3, 5)
    torch.testing.assert_close(layer(x, ON), layer(x, OFF) + 1)


def test_dropout_needs_an_rng_and_depends_on_site_and_step() -> None:
    lora = LoraTensors(parameter(2, 5), parameter(4, 2), 0.5, 0.4, None)
    layer, x = projection(lora=lora), torch.randn(300, 5)
    here = Mode(StepRng(1, 2, 3), adapter=True)
    assert torch.equal(layer(x, ON), projection()(x, ON))
    dropped = dropout(x, 0.4, StepRng(1, 2, 3).key(3))
    expected = layer(x, OFF) + 0.5 * (dropped @ lora.a.t()) @ lora.b.t()
    torch.testing.assert_close(layer(x, here), expected)
    assert torch.equal(layer(x, here), layer(x, here))
    assert not torch.equal(layer(x, here), layer(x, Mode(StepRng(1, 3, 3), adapter=True)))
    assert not torch.equal(layer(x, here), projection(lora=lora, site=4)(x, here))


def test_fp32_weights_are_cast_to_the_input() -> None:
    x = torch.randn(3, 5).to(torch.bfloat16)
    assert projection()(x, ON).dtype == torch.bfloat16
    biased = projection(tuned=Dense(parameter(4, 5), parameter(4)), lora=None)
    assert biased(x, ON).dtype == torch.bfloat16


def test_embedding_scale_is_rounded_as_transformers_rounds_it() -> None:
    weight = parameter(7, 6)
    embedding = Embedding(weight, weight, None, 6**0.5)
    ids = torch.tensor([1, 3, 3])
    rows = embedding(ids, torch.bfloat16, ON)
    scale = torch.tensor(6**0.5, dtype=torch.bfloat16)
    assert torch.equal(rows, weight[ids].to(torch.bfloat16) * scale)


def test_padding_row_of_an_embedding_gets_no_gradient() -> None:
    weight = parameter(7, 6)
    rows = Embedding(weight, weight, 3, 1.0)(torch.tensor([1, 3]), torch.float32, ON)
    (grad,) = torch.autograd.grad(rows.sum(), weight)
    assert grad[1].any()
    assert not grad[3].any()


@pytest.mark.parametrize("adapter", [False, True])
def test_norm_takes_the_version_of_the_mode(adapter: bool) -> None:
    tuned, base = torch.full((6,), 2.0), torch.ones(6)
    norm = Norm(tuned, base, 1e-6, 0.0, weight_fp32=False)
    x = torch.randn(3, 6)
    rms = x.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    torch.testing.assert_close(norm(x, Mode(None, adapter)), x / rms * (2 if adapter else 1))


def test_a_lookup_gives_the_rows_that_are_asked_for() -> None:
    weight = parameter(7, 6)
    ids = torch.tensor([1, 3, 3, 0])
    found = Lookup(Embedding(weight, weight, None, 2.0), ids, torch.bfloat16, ON)
    assert len(found) == 4
    assert found.device == ids.device
    assert torch.equal(found.rows(slice(1, 3)), (2 * weight[[3, 3]].to(torch.bfloat16)))
