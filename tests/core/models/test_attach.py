"""attach: binds by instance, refuses by name what the engine would leave out."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

from ftlab.errors import EnvironmentUnfit
from ftlab.models.attach import attach, base_model

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS, POSITIONS, BOUNDS = torch.arange(1, 8), torch.arange(7), [0, 7]


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, **changes,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def adapted(model: Any = None, **changes: Any) -> Any:
    config = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **changes}
    return peft.get_peft_model(model or llama(), peft.LoraConfig(**config))


def test_parameters_are_the_models_own() -> None:
    model = llama()
    decoder = attach(model)
    assert decoder.trainable() == dict(model.named_parameters())
    before = decoder.hidden(IDS, POSITIONS, BOUNDS)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.zero_()
    assert not torch.equal(before, decoder.hidden(IDS, POSITIONS, BOUNDS))


def test_nothing_of_the_model_is_changed() -> None:
    model = llama()
    classes = {name: type(module) for name, module in model.named_modules()}
    forward = transformers.LlamaForCausalLM.forward
    attach(model)
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert transformers.LlamaForCausalLM.forward is forward
    assert "forward" not in vars(model)


def test_compute_dtype_is_the_embeddings_or_the_one_asked_for() -> None:
    assert attach(llama().to(torch.bfloat16)).compute_dtype == torch.bfloat16
    decoder = attach(llama(), compute_dtype=torch.bfloat16)
    assert decoder.hidden(IDS, POSITIONS, BOUNDS).dtype == torch.bfloat16


def test_base_model_is_found_inside_peft() -> None:
    model = llama()
    assert base_model(model) is model
    assert base_model(adapted(model)) is model


def test_unknown_architecture_is_refused() -> None:
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=11)
    with pytest.raises(EnvironmentUnfit, match="GPT2LMHeadModel is not supported"):
        attach(transformers.GPT2LMHeadModel(config))


def test_unknown_modules_are_refused_by_name() -> None:
    class Shouting(nn.Linear):
        """Not the Linear it seems to be."""

    model = llama()
    model.model.layers[1].mlp.up_proj = Shouting(16, 24, bias=False)
    with pytest.raises(EnvironmentUnfit, match=r"model\.layers\.1\.mlp\.up_proj is a Shouting"):
        attach(model)
    model = llama()
    model.model.norm = nn.LayerNorm(16)
    with pytest.raises(EnvironmentUnfit, match=r"model\.norm is a LayerNorm"):
        attach(model)


def test_missing_modules_and_layers_are_refused_by_name() -> None:
    model = llama()
    del model.model.layers[0].mlp
    with pytest.raises(EnvironmentUnfit, match=r"no module model\.layers\.0\.mlp"):
        attach(model)
    model = llama()
    del model.model.layers[1]
    with pytest.raises(EnvironmentUnfit, match=r"model\.layers holds 1, not 2"):
        attach(model)


def test_weights_that_were_never_loaded_are_refused() -> None:
    with torch.device("meta"):
        model = llama()
    with pytest.raises(EnvironmentUnfit, match="on meta, expected floats"):
        attach(model)


def test_trainable_parameters_outside_the_decoder_are_refused() -> None:
    model = llama()
    model.extra = nn.Linear(2, 2)
    with pytest.raises(EnvironmentUnfit, match=r"extra\.weight, extra\.bias"):
        attach(model)
    for parameter in model.extra.parameters():
        parameter.requires_grad_(False)
    assert attach(model).trainable()


def test_adapters_that_are_not_computed_are_refused() -> None:
    with pytest.raises(EnvironmentUnfit, match="embed_tokens is a Embedding"):
        attach(adapted(target_modules=["q_proj", "embed_tokens"]))
    with pytest.raises(EnvironmentUnfit, match="lora_bias"):
        attach(adapted(lora_bias=True, target_modules=["q_proj"], model=llama(attention_bias=True)))
    merged = adapted()
    merged.merge_adapter()
    with pytest.raises(EnvironmentUnfit, match=r"q_proj .* is merged"):
        attach(merged)
    with pytest.raises(EnvironmentUnfit, match="lm_head carries LoRA with dropout"):
        attach(adapted(target_modules=["lm_head"], lora_dropout=0.1))


def test_two_active_adapters_are_refused() -> None:
    model = adapted()
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(EnvironmentUnfit, match="several active adapters"):
        attach(model)


def test_a_bias_that_is_trained_keeps_its_base_value() -> None:
    model = adapted(llama(attention_bias=True), bias="lora_only")
    decoder = attach(model)
    before = decoder.hidden(IDS, POSITIONS, BOUNDS, adapter=False)
    with torch.no_grad():
        for name, parameter in decoder.trainable().items():
            if name.endswith("bias"):
                parameter.add_(1.0)
    assert torch.equal(before, decoder.hidden(IDS, POSITIONS, BOUNDS, adapter=False))
    assert not torch.equal(before, decoder.hidden(IDS, POSITIONS, BOUNDS))
