"""Merging equals PEFT's own, keeps the function of the model, and survives saving."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from ftlab.lora.inject import inject
from ftlab.lora.merge import merge
from ftlab.models.families import spec_from_config
from ftlab.schema import AdapterSection

IDS = torch.arange(3, 23)[None]


def save(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, **changes,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def adapted(model: Any, **changes: Any) -> Any:
    raw = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    wrapped = inject(model, AdapterSection(r=3, **changes), spec_from_config(raw), 1)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return wrapped.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        values: torch.Tensor = model(IDS).logits
    return values


VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "bias": {"bias": "all"},
    "head": {"modules_to_save": ["lm_head"]},
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_pefts_merge_and_reloads(tmp_path: Path, variant: str, tied: bool) -> None:
    source = save(tmp_path / "base", tie_word_embeddings=tied, attention_bias=variant == "bias")
    model = adapted(transformers.AutoModelForCausalLM.from_pretrained(source), **VARIANTS[variant])
    before, theirs = logits(model), copy.deepcopy(model).merge_and_unload()
    ours = merge(model)
    assert type(ours) is transformers.LlamaForCausalLM
    torch.testing.assert_close(logits(ours), before, rtol=1e-4, atol=1e-4)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-6, atol=1e-7)
    assert not any(p.requires_grad for p in ours.parameters())
    ours.save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(again), logits(ours))


@pytest.mark.parametrize("dora", [False, True])
def test_quantised_base_becomes_dense(tmp_path: Path, dora: bool) -> None:
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(
        save(tmp_path / "base"), quantization_config=settings, device_map={"": "cpu"},
        dtype=torch.float32,
    )  # fmt: skip
    model = adapted(base, use_dora=dora)
    before = logits(model)
    ours = merge(model)
    assert getattr(ours.config, "quantization_config", None) is None
    assert type(ours.model.layers[0].mlp.up_proj) is torch.nn.Linear
    torch.testing.assert_close(logits(ours), before, rtol=1e-3, atol=1e-3)
    ours.save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(again), logits(ours))


def test_dtype_of_the_result(tmp_path: Path) -> None:
    model = adapted(transformers.AutoModelForCausalLM.from_pretrained(save(tmp_path)))
    exact = dict(merge(copy.deepcopy(model)).named_parameters())
    for name, parameter in merge(model, dtype=torch.bfloat16).named_parameters():
        assert torch.equal(parameter, exact[name].to(torch.bfloat16)), name


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*ensure_weight_tying:UserWarning")
def test_a_head_trained_apart_is_not_tied_again(tmp_path: Path) -> None:
    source = save(tmp_path / "base", tie_word_embeddings=True)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    base = transformers.AutoModelForCausalLM.from_pretrained(source)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight.mul_(2.0)
    before = logits(model.eval())
    ours = merge(model)
    assert not ours.config.tie_word_embeddings
    ours.save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), before, rtol=1e-5, atol=1e-5)
