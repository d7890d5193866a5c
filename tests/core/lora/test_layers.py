"""Reading PEFT's layers: every number the engine needs (refusals: test_attach)."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from torch import nn

from ftlab.errors import EnvironmentUnfit
from ftlab.lora.layers import lora_of


class Tiny(nn.Module):
    """One linear layer under a name."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(6, 4)


def adapted(**changes: Any) -> Any:
    config = peft.LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["proj"], **changes})
    return peft.inject_adapter_in_model(config, Tiny()).proj


def test_plain_layers_have_none() -> None:
    assert lora_of("proj", nn.Linear(2, 2)) is None


def test_lora() -> None:
    layer = adapted(lora_dropout=0.25)
    lora = lora_of("proj", layer)
    assert lora is not None
    assert lora.a is layer.lora_A["default"].weight
    assert lora.b is layer.lora_B["default"].weight
    assert (lora.scaling, lora.dropout, lora.magnitude) == (3.0, 0.25, None)


def test_rslora_scales_by_the_root() -> None:
    lora = lora_of("proj", adapted(use_rslora=True))
    assert lora is not None
    assert lora.scaling == pytest.approx(6 / math.sqrt(2))
    assert lora.dropout == 0


def test_dora_has_a_magnitude() -> None:
    layer = adapted(use_dora=True)
    lora = lora_of("proj", layer)
    assert lora is not None
    assert lora.magnitude is not None
    torch.testing.assert_close(
        lora.magnitude.detach(), torch.linalg.norm(layer.base_layer.weight, dim=1).detach()
    )


def test_switched_off_is_none() -> None:
    layer = adapted()
    layer.enable_adapters(False)
    assert lora_of("proj", layer) is None


def test_other_variants_are_refused() -> None:
    layer = adapted()
    layer.lora_variant["default"] = object()
    with pytest.raises(EnvironmentUnfit, match="uses the LoRA variant object"):
        lora_of("proj", layer)


def test_adapters_of_embeddings_are_refused() -> None:
    model = nn.Sequential()
    model.embed = nn.Embedding(5, 4)
    layer = peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["embed"]), model).embed
    with pytest.raises(EnvironmentUnfit, match="not a linear one"):
        lora_of("embed", layer)
