"""The conversion of the real small model: traps, identity and quality."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftlab.starter import convert
from ftlab.starter.model import RECORD, file_sha256

# Both stacks write these bytes. Perplexities were measured on them (LOG.md); a change means another
# model than the one that results were made with.
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
TOKENIZER_SHA256 = "7d27c493c729a66ecefc837280b05d948b1ed50d130eebdbf911b1b36cf38ed7"


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()


def test_rotary_rows_are_put_into_halves() -> None:
    """Row 2i of llama.cpp's head is row i, row 2i + 1 is row i + D/2."""
    rows = np.arange(2 * 6)[:, None] * np.ones((1, 3))
    found = convert.rotary_to_halves(rows, heads=2)[:, 0].astype(int).tolist()
    assert found == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_names() -> None:
    assert convert.hf_name("token_embd.weight") == "model.embed_tokens.weight"
    assert convert.hf_name("output_norm.weight") == "model.norm.weight"
    assert convert.hf_name("blk.3.attn_output.weight") == "model.layers.3.self_attn.o_proj.weight"


def test_another_model_is_refused() -> None:
    field = SimpleNamespace(contents=lambda: 12)
    reader = SimpleNamespace(fields={"llama.block_count": field}, tensors=[])
    with pytest.raises(ValueError, match="another model"):
        convert._check(reader)
    with pytest.raises(ValueError, match="no field"):
        convert._check(SimpleNamespace(fields={}, tensors=[]))


@pytest.fixture
def small_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file of the same kind with one layer, and the module told of its sizes."""
    from gguf import GGUFWriter

    sizes = {
        "LAYERS": 1, "HIDDEN": 8, "HEADS": 2, "KV_HEADS": 1, "FEED_FORWARD": 12, "VOCABULARY": 19,
        "CONTEXT": 64,
    }  # fmt: skip
    for name, size in sizes.items():
        monkeypatch.setattr(convert, name, size)
    path = tmp_path / "small.gguf"
    writer = GGUFWriter(str(path), "llama")
    for key, value in (
        ("block_count", 1), ("embedding_length", 8), ("feed_forward_length", 12),
        ("attention.head_count", 2), ("attention.head_count_kv", 1), ("vocab_size", 19),
        ("context_length", 64),
    ):  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"0123456789Ġab", "ab",
                           "Ġa", "Ġab"])  # fmt: skip
    writer.add_token_types([3, 3, 3, *[1] * 16])
    writer.add_token_merges(["Ġ a", "Ġa b", "a b"])
    writer.add_chat_template("{{ messages }}")
    shapes = {"attn_norm": (8,), "ffn_norm": (8,), "attn_q": (8, 8), "attn_k": (4, 8),
              "attn_v": (4, 8), "attn_output": (8, 8), "ffn_gate": (12, 8), "ffn_up": (12, 8),
              "ffn_down": (8, 12)}  # fmt: skip
    every = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    every |= {"token_embd.weight": (19, 8), "output_norm.weight": (8,)}
    for number, (name, shape) in enumerate(every.items()):
        values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) + number
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_becomes_a_checkpoint(small_gguf: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = tmp_path / "made"
    folder.mkdir()
    convert.convert(small_gguf, folder)
    weights = load_file(folder / "model.safetensors")
    assert len(weights) == 11
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    value = weights["model.layers.0.self_attn.v_proj.weight"].float()
    assert value.flatten()[0] == 4  # the fifth tensor, as it stands in the file
    key = weights["model.layers.0.self_attn.k_proj.weight"].float()
    assert key[:, 0].tolist() == [3, 19, 11, 27]  # rows 0, 2, 1, 3
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("ab ab12<|im_end|>").tokens == ["ab", "Ġab", "1", "2", "<|im_end|>"]
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 64


def test_a_tensor_too_few_is_refused(small_gguf: Path) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(str(small_gguf))
    reader.tensors = reader.tensors[:-1]
    with pytest.raises(ValueError, match="10 tensors, expected 11"):
        convert._check(reader)


def test_the_bytes_are_the_same_everywhere(smollm2: Path) -> None:
    assert file_sha256(smollm2 / "model.safetensors") == WEIGHTS_SHA256
    assert file_sha256(smollm2 / "tokenizer.json") == TOKENIZER_SHA256
    names = {path.name for path in smollm2.iterdir()} - {RECORD}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_the_tokenizer_is_whole(tokenizer: Any) -> None:
    assert tokenizer.tokenize("in 12345 cats") == ["in", "Ġ", "1", "2", "3", "4", "5", "Ġcats"]
    assert tokenizer.model_max_length == 8192
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    text = "Ünïcode, 12 + 3\n\tñandú ✓"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_is_there(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_the_config_is_the_models(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["rope_theta"] == 100000.0
    assert config["tie_word_embeddings"] is True
    assert config["architectures"] == ["LlamaForCausalLM"]


def test_parameters(model: Any) -> None:
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008


def test_the_greedy_answer(model: Any, tokenizer: Any) -> None:
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    output = model.generate(**encoded, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(output[0, encoded["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"
