"""Loading: precisions, masters, dialects, quiet, and every refusal explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.models.attach import attach
from ftlab.models.load import load_model, load_tokenizer
from ftlab.schema import AdapterSection

LORA = AdapterSection(r=2, target_modules=["q_proj", "down_proj"])
FULL = AdapterSection(kind="none")


def save(folder: Path, model_type: str = "llama", **changes: Any) -> Path:
    """A small random model with a tokenizer of single letters."""
    values: dict[str, Any] = {
        "vocab_size": 32, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **changes,
    }  # fmt: skip
    if model_type == "gemma3":
        vision = {
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        }  # fmt: skip
        text = {**values, "model_type": "gemma3_text", "head_dim": 16}
        values = {"text_config": text, "vision_config": vision}
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[model_type](**values)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    letters = {letter: number for number, letter in enumerate("<>_abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="_")
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llama"))


def edit(folder: Path, copy: Path, **changes: Any) -> Path:
    """A copy of a model whose config.json differs."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config.update(changes)
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def logits(model: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    decoder = attach(model, compute_dtype=dtype)
    ids = torch.arange(3, 13)
    with torch.no_grad():
        return decoder.logits(decoder.hidden(ids, torch.arange(10), [0, 10])).float()


def test_lora_freezes_the_base_and_holds_fp32_adapters(llama: Path) -> None:
    loaded = load_model(str(llama), precision="bf16", compute_dtype="bf16", adapter=LORA, seed=5)
    trained = {name for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all("lora_" in name for name in trained)
    dtypes = {name: p.dtype for name, p in loaded.model.named_parameters()}
    assert {dtypes[name] for name in trained} == {torch.float32}
    assert {dtypes[name] for name in dtypes if name not in trained} == {torch.bfloat16}
    assert loaded.spec.family == "llama"
    assert loaded.tokenizer("abc")["input_ids"] == [3, 4, 5]


@pytest.mark.parametrize("adapter", [None, FULL])
def test_full_fine_tuning_holds_fp32_masters(llama: Path, adapter: AdapterSection | None) -> None:
    loaded = load_model(str(llama), precision="bf16", compute_dtype="bf16", adapter=adapter)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in loaded.model.parameters())


def test_vision_tower_stays_frozen(tmp_path: Path) -> None:
    loaded = load_model(str(save(tmp_path, "gemma3")), adapter=FULL)
    trained = attach(loaded.model).trainable()
    assert trained
    assert all("language_model" in name or name.startswith("lm_head") for name in trained)
    adapted = load_model(str(tmp_path), adapter=AdapterSection(r=2))
    names = [name for name in attach(adapted.model).trainable() if "lora_A" in name]
    assert len(names) == 2 * 7
    assert all("language_model" in name for name in names)


@pytest.mark.parametrize(("precision", "tolerance"), [("nf4", 0.3), ("int8", 0.02)])
def test_quantised_weights_are_near_and_small(
    llama: Path, precision: str, tolerance: float
) -> None:
    exact = logits(load_model(str(llama), adapter=LORA).model)
    loaded = load_model(str(llama), precision=precision, adapter=LORA)
    linear = loaded.model.get_base_model().model.layers[0].mlp.up_proj
    assert linear.weight.dtype in (torch.uint8, torch.int8)
    near = logits(loaded.model)
    assert 0 < (near - exact).norm() / exact.norm() < tolerance


def test_nf4_on_the_cpu_equals_bitsandbytes(llama: Path) -> None:
    """The engine against transformers + PEFT + bitsandbytes: logits and adapter gradients."""
    model = load_model(str(llama), precision="nf4", adapter=LORA, seed=1).model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(2))
    decoder = attach(model)
    ids, labels = torch.arange(3, 13), torch.arange(4, 14)
    hidden = decoder.hidden(ids, torch.arange(10), [0, 10])
    theirs = model(ids[None]).logits[0]
    torch.testing.assert_close(decoder.logits(hidden), theirs, rtol=1e-4, atol=1e-4)
    named = decoder.trainable()
    loss = torch.nn.functional.cross_entropy(theirs, labels, reduction="sum")
    ours = torch.autograd.grad(decoder.token_loss(hidden, labels).sum(), list(named.values()))
    expected = torch.autograd.grad(loss, list(named.values()))
    for name, a, b in zip(named, ours, expected, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm(), name


def test_checkpoints_quantised_by_bitsandbytes_are_recognised(llama: Path, tmp_path: Path) -> None:
    loaded = load_model(str(llama), precision="nf4", adapter=LORA, seed=1)
    base = loaded.model.unload()
    base.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), precision="nf4", adapter=LORA, seed=1)
    fresh = load_model(str(llama), precision="nf4", adapter=LORA, seed=1)
    assert torch.equal(logits(again.model), logits(fresh.model))
    with pytest.raises(ConfigError, match=r"stored as bitsandbytes-nf4.*set it to nf4"):
        load_model(str(tmp_path), precision="bf16", adapter=LORA)
    with pytest.raises(ConfigError, match="weights are frozen"):
        load_model(str(tmp_path), precision="nf4")


def test_other_quantisations_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(EnvironmentUnfit, match="quantised as 'gptq'"):
        load_model(str(folder), adapter=LORA)


@pytest.mark.parametrize(
    ("precision", "adapter", "message"),
    [("fp8", LORA, "got 'fp8', allowed: fp32"), ("nf4", FULL, "weights are frozen")],
)
def test_senseless_precisions_are_config_errors(
    llama: Path, precision: str, adapter: AdapterSection, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(str(llama), precision=precision, adapter=adapter)


@pytest.mark.parametrize("dialect", ["old", "new"])
def test_either_dialect_of_rope_gives_one_model(llama: Path, tmp_path: Path, dialect: str) -> None:
    """transformers 4 alone would read the new dialect as if it said nothing."""
    changes: dict[str, Any] = {"rope_theta": 77.0, "rope_parameters": None}
    if dialect == "new":
        parameters = {"rope_type": "default", "rope_theta": 77.0}
        changes = {"rope_parameters": parameters, "rope_theta": None}
    loaded = load_model(str(edit(llama, tmp_path / "m", **changes)))
    assert loaded.spec.ropes[0].theta == 77.0
    ids = torch.arange(3, 13)
    with torch.no_grad():
        theirs = loaded.model(ids[None]).logits[0]
    torch.testing.assert_close(logits(loaded.model), theirs, rtol=1e-4, atol=1e-5)


def test_generation_caps_as_training_does(tmp_path: Path) -> None:
    """Gemma 2, which transformers 5 refuses to run with PyTorch's attention, and 4 runs wrongly."""
    folder = save(
        tmp_path, "gemma2", head_dim=16, attn_logit_softcapping=0.02, initializer_range=1.0
    )
    loaded = load_model(str(folder))
    ids = torch.arange(3, 13)
    with torch.no_grad():
        theirs = loaded.model(ids[None]).logits[0]
    torch.testing.assert_close(logits(loaded.model), theirs, rtol=1e-3, atol=1e-3)


def test_rope_scaling_of_a_run_reaches_model_and_engine(llama: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 4.0}
    loaded = load_model(str(llama), rope_scaling=scaling)
    assert loaded.spec.ropes[0].factor == 4.0
    ids = torch.arange(3, 13)
    with torch.no_grad():
        theirs = loaded.model(ids[None]).logits[0]
    torch.testing.assert_close(logits(loaded.model), theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(load_model(str(llama)).model), theirs, atol=1e-4)


def test_loading_is_silent(llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(llama), adapter=LORA)
    assert capfd.readouterr().err == ""


def test_missing_and_misshapen_tensors_are_refused(llama: Path, tmp_path: Path) -> None:
    more = edit(llama, tmp_path / "more", num_hidden_layers=3, layer_types=None)
    with pytest.raises(EnvironmentUnfit, match=r"do not fit their config.json: model\.layers\.2"):
        load_model(str(more))
    wider = edit(llama, tmp_path / "wider", intermediate_size=256)
    with pytest.raises(EnvironmentUnfit, match=r"cannot load|do not fit"):
        load_model(str(wider))


def test_a_truncated_file_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EnvironmentUnfit, match="cannot load the weights"):
        load_model(str(folder))


def test_a_model_type_that_transformers_lacks_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m", model_type="llama99")
    with pytest.raises(EnvironmentUnfit, match="does not know the model_type 'llama99'"):
        load_model(str(folder))


def test_a_config_that_transformers_refuses_is_explained(tmp_path: Path) -> None:
    folder = save(tmp_path / "phi", "phi3", pad_token_id=None)
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.0] * 8}
    broken = {"type": "longrope", **factors, "short_factor": ["a"] * 8}
    with pytest.raises((EnvironmentUnfit, ValueError), match=r"short_factor|could not convert"):
        load_model(str(edit(folder, tmp_path / "m", rope_scaling=broken, rope_parameters=None)))


def test_repository_code_does_not_run_unasked(llama: Path, tmp_path: Path) -> None:
    auto_map = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    folder = edit(llama, tmp_path / "m", auto_map=auto_map)
    (folder / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    loaded = load_model(str(folder))
    assert type(loaded.model) is transformers.LlamaForCausalLM


def test_tokenizer_of_transformers_5_is_read_by_both(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "TokenizersBackend"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(str(folder))("abc")["input_ids"] == [3, 4, 5]


def test_a_missing_tokenizer_is_explained(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(EnvironmentUnfit, match="no usable tokenizer"):
        load_tokenizer(str(folder))


def test_pickled_weights_are_never_loaded(llama: Path, tmp_path: Path) -> None:
    folder = edit(llama, tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EnvironmentUnfit, match=r"pytorch_model\.bin may hold pickled code"):
        load_model(str(folder))
