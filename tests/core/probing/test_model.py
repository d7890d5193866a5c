"""Facts of a model from its files, and every way its files can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.models.source import Source
from ftlab.probing import model
from ftlab.schema import ModelSection

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100,
    "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip


def safetensors(path: Path, dtype: str = "BF16", count: int = 16) -> None:
    header = json.dumps({"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, count]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with one shard."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "tokenizer.json").write_text("{}")
    (place / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"}))
    safetensors(place / "model.safetensors")
    return place


def facts(folder: Path, **changed: Any) -> Any:
    return model.model_facts(ModelSection(name=str(folder), **changed))


def test_a_local_folder(folder: Path) -> None:
    found = facts(folder)
    assert (found.architecture, found.family) == ("LlamaForCausalLM", "llama")
    assert (found.stored_dtype, found.stored_bytes) == ("bf16", 16)
    assert found.path == str(folder)
    assert found.revision == ""
    assert found.max_positions == 64
    assert found.has_chat_template
    assert set(found.hashes) == {"config", "tokenizer", "template", "weights"}
    assert found.linear_shapes["q_proj"] == (8, 8, 2)


def test_hashes_follow_the_contents(folder: Path) -> None:
    before = facts(folder).hashes
    (folder / "tokenizer.json").write_text('{"a": 1}')
    safetensors(folder / "model.safetensors", count=32)
    after = facts(folder).hashes
    assert after["config"] == before["config"]
    assert after["tokenizer"] != before["tokenizer"]
    assert after["weights"] != before["weights"]


def test_shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    safetensors(folder / "model-1.safetensors")
    with pytest.raises(EnvironmentUnfit, match=r"has no model-2\.safetensors"):
        facts(folder)
    safetensors(folder / "model-2.safetensors", "F32", 64)
    assert (facts(folder).stored_dtype, facts(folder).stored_bytes) == ("fp32", 80)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../x"}}'])
def test_a_broken_index(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(EnvironmentUnfit, match=r"index of weights|no usable file names"):
        facts(folder)


def test_pickles_are_named_and_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(EnvironmentUnfit, match=r"pytorch_model\.bin may hold pickled code"):
        facts(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM is not supported; supported"),
        ({"hidden_size": "big"}, "hidden_size"),
    ],
)
def test_models_that_are_not_supported(folder: Path, change: dict[str, Any], words: str) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(EnvironmentUnfit, match=words):
        facts(folder)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnfit, match="is no folder and no hub id"):
        facts(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EnvironmentUnfit, match=r"no config\.json"):
        facts(tmp_path / "empty")
    with pytest.raises(EnvironmentUnfit, match="HF_HUB_OFFLINE"):
        facts(Path("some-owner/some-model-that-is-not-cached"))


def test_quantised_checkpoints(folder: Path) -> None:
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": quantised}))
    assert facts(folder).quantization == "bitsandbytes-nf4"


def test_rope_scaling_of_the_config_reaches_the_spec(folder: Path) -> None:
    scaled = facts(folder, rope_scaling={"rope_type": "linear", "factor": 2.0})
    assert scaled.spec["ropes"][0]["kind"] == "linear"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ""),
        ({"chat_template.jinja": "J"}, "J"),
        ({"chat_template.json": '{"chat_template": "K"}'}, "K"),
        ({"tokenizer_config.json": '{"chat_template": "L"}'}, "L"),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "n"}]}'}, '[{"name": "n"}]'),
        ({"chat_template.jinja": "J", "tokenizer_config.json": '{"chat_template": "L"}'}, "J"),
    ],
)
def test_where_a_chat_template_may_be(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert model.chat_template(tmp_path) == expected


def test_a_broken_tokenizer_config(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(EnvironmentUnfit, match="not a JSON object"):
        model.chat_template(tmp_path)


class FakeHub:
    """Answers of the hub about a repository whose weights are not downloaded."""

    def __init__(self, names: list[str], error: Exception | None = None) -> None:
        self.names, self.error = names, error

    def model_info(self, *_: Any, **__: Any) -> Any:
        if self.error:
            raise self.error
        files = [
            SimpleNamespace(rfilename=name, size=10, lfs=SimpleNamespace(sha256="s" * 64))
            for name in self.names
        ]
        return SimpleNamespace(siblings=files)


def from_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> model.Weights:
    import huggingface_hub

    metadata = SimpleNamespace(parameter_count={"BF16": 100, "F32": 1})
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", lambda *_, **__: metadata)
    monkeypatch.setattr(model, "is_offline", lambda: False)
    (folder / "model.safetensors").unlink()
    return model._weights(Source("owner/name", folder, "c0ffee"), cache=True)


def test_weights_that_only_the_hub_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = from_hub(folder, monkeypatch, FakeHub(["model.safetensors"]))
    assert (found.dtype, found.stored_bytes) == ("bf16", 10)
    assert len(found.sha256) == 64


def test_a_hub_model_with_pickles_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"pytorch_model\.bin may hold pickled code"):
        from_hub(folder, monkeypatch, FakeHub(["pytorch_model.bin"]))


def test_a_hub_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub([], error=OSError("no route to host"))
    with pytest.raises(TryLater, match="no route to host"):
        from_hub(folder, monkeypatch, hub)


def test_the_real_model(smollm2: Path) -> None:
    found = facts(smollm2)
    assert found.parameters == 134_515_008
    assert found.stored_dtype in ("bf16", "fp32")
    assert found.max_positions == 8192
    assert found.has_chat_template
