"""Adapters through PEFT: parity in forward and backward, seeded start, format, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.lora.inject import inject, load_adapter, save_adapter
from ftlab.models.attach import attach
from ftlab.models.engine import Decoder, StepRng
from ftlab.models.families import spec_from_config
from ftlab.schema import AdapterSection

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SMALL = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "all-linear": {},
    "subset": {"target_modules": ["q_proj", "down_proj"]},
    "one-layer": {"target_modules": ["model.layers.1.mlp.up_proj"]},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora-rslora": {
        "use_dora": True,
        "use_rslora": True,
        "target_modules": ["k_proj", "gate_proj"],
    },
    "bias-all": {"bias": "all"},
    "bias-lora": {"bias": "lora_only", "target_modules": ["v_proj", "o_proj"]},
    "dora-bias": {"use_dora": True, "bias": "all"},
    "head": {"modules_to_save": ["lm_head"]},
    "head-embedding": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "norm": {"modules_to_save": ["norm", "input_layernorm"]},
    "lora-head": {"target_modules": ["q_proj", "lm_head"]},
}
IDS = torch.randint(61, (31,), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(61, (31,), generator=torch.Generator().manual_seed(1))
BOUNDS = [0, 13, 31]
POSITIONS = torch.cat([torch.arange(13), torch.arange(18)])


def build(model_type: str = "llama", **changes: Any) -> Any:
    torch.manual_seed(3)
    config = transformers.CONFIG_MAPPING[model_type](**{**SMALL, **changes})
    return transformers.AutoModelForCausalLM.from_config(config)


def adapted(model: Any, seed: int = 9, noise: bool = True, **changes: Any) -> Any:
    """A model with an adapter whose tensors are all away from their neutral start."""
    raw = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    section = AdapterSection(**{"r": 3, "lora_alpha": 5.0, **changes})
    wrapped = inject(model, section, spec_from_config(raw), seed)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad and noise:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return wrapped


def reference(model: nn.Module) -> Tensor:
    return torch.cat([model(IDS[a:b][None]).logits[0] for a, b in ((0, 13), (13, 31))])


def grads(loss: Tensor, decoder: Decoder) -> dict[str, Tensor]:
    named = decoder.trainable()
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert ours
    for name, grad in ours.items():
        assert (grad - theirs[name]).norm() <= 1e-4 * theirs[name].norm(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_and_gradients_equal_peft(variant: str) -> None:
    biased = "bias" in variant
    model = adapted(build(attention_bias=biased, mlp_bias=biased), **VARIANTS[variant])
    decoder = attach(model)
    hidden = decoder.hidden(IDS, POSITIONS, BOUNDS)
    theirs = reference(model)
    torch.testing.assert_close(decoder.logits(hidden), theirs, rtol=1e-4, atol=1e-5)
    loss = nn.functional.cross_entropy(theirs, LABELS, reduction="sum")
    ours = decoder.token_loss(hidden, LABELS).sum()
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_close(grads(ours, decoder), grads(loss, decoder))


@pytest.mark.parametrize("model_type", ["phi3", "gemma2", "qwen3"])
@pytest.mark.parametrize("dora", [False, True])
def test_other_families_equal_peft(model_type: str, dora: bool) -> None:
    model = adapted(build(model_type, head_dim=16), use_dora=dora)
    model.set_attn_implementation("eager") if model_type == "gemma2" else None
    decoder = attach(model)
    hidden = decoder.hidden(IDS, POSITIONS, BOUNDS)
    theirs = reference(model)
    torch.testing.assert_close(decoder.logits(hidden), theirs, rtol=1e-4, atol=1e-5)
    loss = nn.functional.cross_entropy(theirs, LABELS, reduction="sum")
    assert_close(grads(decoder.token_loss(hidden, LABELS).sum(), decoder), grads(loss, decoder))
    fused = {"phi3": "qkv_proj", "gemma2": "q_proj", "qwen3": "q_proj"}[model_type]
    assert any(fused in name for name in decoder.trainable())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("variant", ["all-linear", "dora", "head", "head-embedding", "norm"])
def test_adapter_off_is_the_base_model(variant: str, tied: bool) -> None:
    base = reference(build(tie_word_embeddings=tied))
    decoder = attach(adapted(build(tie_word_embeddings=tied), **VARIANTS[variant]))
    hidden = decoder.hidden(IDS, POSITIONS, BOUNDS, adapter=False)
    off = decoder.logits(hidden, adapter=False)
    torch.testing.assert_close(off, base, rtol=1e-4, atol=1e-5)
    logprobs = decoder.token_logprobs(hidden, LABELS, adapter=False)
    expected = torch.log_softmax(base, -1).gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(logprobs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("named", ["lm_head", "embed_tokens"])
def test_a_tied_head_and_embedding_stay_one_tensor(named: str) -> None:
    model = adapted(build(tie_word_embeddings=True), modules_to_save=[named])
    decoder = attach(model)
    assert decoder.embedding.tuned is decoder.head.tuned.weight
    hidden = decoder.hidden(IDS, POSITIONS, BOUNDS)
    loss = nn.functional.cross_entropy(reference(model), LABELS, reduction="sum")
    assert_close(grads(decoder.token_loss(hidden, LABELS).sum(), decoder), grads(loss, decoder))


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_is_a_function_of_the_step_and_survives_checkpointing(dora: bool) -> None:
    decoder = attach(adapted(build(), lora_dropout=0.3, use_dora=dora))
    here = StepRng(1, 2, 0)

    def run(rng: StepRng | None, checkpointing: bool = False) -> dict[str, Tensor]:
        torch.rand(3)  # the global generator is somewhere else each time
        hidden = decoder.hidden(IDS, POSITIONS, BOUNDS, rng=rng, checkpointing=checkpointing)
        return grads(decoder.token_loss(hidden, LABELS).sum(), decoder)

    first = run(here)
    for again in (run(here), run(here, checkpointing=True)):
        assert all(torch.equal(first[name], again[name]) for name in first)
    other = run(StepRng(1, 3, 0))
    assert not all(torch.equal(first[name], other[name]) for name in first)
    decoder.eval_mode()
    plain = run(None)
    assert all(torch.equal(plain[name], grad) for name, grad in run(here).items())


def test_start_is_a_function_of_seed_and_name_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = adapted(build(), noise=False)
    torch.manual_seed(2)
    second = adapted(build(), noise=False)
    torch.manual_seed(1)
    build()
    other = adapted(build(), seed=10, noise=False)
    fewer = dict(adapted(build(), noise=False, target_modules=["v_proj"]).named_parameters())
    for (name, a), b, c in zip(
        first.named_parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        if "lora_A" in name:
            bound = a.shape[1] ** -0.5
            assert 0.9 * bound < a.abs().max() <= bound
            assert not torch.equal(a, c)
            assert name not in fewer or torch.equal(a, fewer[name])
        if "lora_B" in name:
            assert not a.any()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_global_rng_is_left_alone() -> None:
    model = build()
    before = torch.get_rng_state()
    adapted(model, noise=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_trained_tensors_are_fp32_and_the_rest_frozen() -> None:
    model = adapted(build().to(torch.bfloat16), modules_to_save=["lm_head"], bias="all")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert not model.get_base_model().model.embed_tokens.weight.requires_grad


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "lora-head"])
@pytest.mark.parametrize("tied", [False, True])
def test_saved_adapters_are_read_by_peft_and_by_us(
    tmp_path: Path, variant: str, tied: bool
) -> None:
    def fresh() -> Any:
        biased = "bias" in variant
        return build(tie_word_embeddings=tied, attention_bias=biased, mlp_bias=biased)

    model = adapted(fresh(), **VARIANTS[variant])
    save_adapter(model, tmp_path / "one")
    save_adapter(model, tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    theirs = peft.PeftModel.from_pretrained(fresh(), tmp_path / "one")
    ours = load_adapter(fresh(), tmp_path / "one")
    into = load_adapter(
        adapted(fresh(), seed=1, noise=False, **VARIANTS[variant]), tmp_path / "one"
    )
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, theirs.get_parameter(name)), name
        assert torch.equal(parameter, ours.get_parameter(name)), name
        assert torch.equal(parameter, into.get_parameter(name)), name
        assert ours.get_parameter(name).requires_grad == parameter.requires_grad


def test_saved_files_are_safetensors_and_json_without_surprises(tmp_path: Path) -> None:
    save_adapter(adapted(build()), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 5.0)
    assert config["inference_mode"] is True
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names


def test_names_that_the_model_lacks_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        adapted(build(), target_modules=["q_prj", "zzz"], modules_to_save=["lm_heat"])
    text = str(caught.value)
    assert "'q_prj' (did you mean q_proj?)" in text
    assert "'zzz' (known are down_proj, gate_proj, k_proj, lm_head" in text
    assert (
        "adapter.modules_to_save: the model has no module 'lm_heat' (did you mean lm_head?)" in text
    )
    with pytest.raises(ConfigError, match=r"no module 'q_proj' .did you mean qkv_proj"):
        adapted(build("phi3", head_dim=16), target_modules=["q_proj"])


def test_lora_on_a_tied_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="lm_head shares its weight with embed_tokens"):
        adapted(build(tie_word_embeddings=True), target_modules=["lm_head"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no adapter_config.json"),
        (["adapter_config.json"], "no adapter_model.safetensors"),
        (["adapter_config.json", "adapter_model.bin"], "is a pickle and is never loaded"),
    ],
)
def test_missing_files_and_pickles_are_refused(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(EnvironmentUnfit, match=message):
        load_adapter(build(), tmp_path)


def test_adapters_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_adapter(adapted(build()), tmp_path)
    for changes in ({"r": 4}, {"target_modules": ["q_proj"]}):
        with pytest.raises(EnvironmentUnfit, match="does not fit the model"):
            load_adapter(adapted(build(), **changes), tmp_path)
    save_adapter(adapted(build(), target_modules=["q_proj"]), tmp_path)
    with pytest.raises(EnvironmentUnfit, match="does not fit the model"):
        load_adapter(adapted(build()), tmp_path)
