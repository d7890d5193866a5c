"""Turns the SmolLM2-135M-Instruct GGUF file into an ordinary Hugging Face checkpoint.

The file is read with `gguf` and written with `safetensors` and `tokenizers`, not through
transformers, so that every supported stack gives the same bytes. What the file leaves open is
settled here: the digit split of the tokenizer, the tokenizer class both transformers 4 and 5 load,
the context length, and the rotary layout of llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, VOCABULARY = 30, 576, 9, 3, 1536, 49_152
CONTEXT = 8192
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "head_dim": HIDDEN // HEADS,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": FEED_FORWARD,
    "max_position_embeddings": CONTEXT,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KV_HEADS,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}
GENERATION = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "do_sample": False}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write config, tokenizer and bf16 weights of `gguf_file` into the existing `folder`.

    Raises:
        ValueError: the file is not the SmolLM2-135M model this module describes.
    """
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf_file))
    _check(reader)
    _write_json(folder / "config.json", CONFIG)
    _write_json(folder / "generation_config.json", GENERATION)
    _write_tokenizer(reader, folder)
    _write_weights(reader, folder / "model.safetensors")


def hf_name(name: str) -> str:
    """The transformers name of a llama.cpp tensor, such as `blk.0.attn_q.weight`."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"


def rotary_to_halves(weight: Any, heads: int) -> Any:
    """Undo llama.cpp's row order of a query or key projection `[heads * D, H]`.

    llama.cpp rotates neighbouring rows (2i, 2i + 1) of a head; transformers rotates row i with
    row i + D/2.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _tensors(reader: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor under its transformers name, as a float32 numpy array."""
    from gguf import dequantize

    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if part in heads:
            values = rotary_to_halves(values, heads[part])
        yield hf_name(tensor.name), values


def _write_weights(reader: Any, path: Path) -> None:
    import numpy
    import torch
    from safetensors.torch import save_file

    weights = {
        name: torch.from_numpy(numpy.array(values, dtype=numpy.float32)).to(torch.bfloat16)
        for name, values in _tensors(reader)
    }
    save_file(weights, path, metadata={"format": "pt"})


def _write_tokenizer(reader: Any, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = (
        _field(reader, "tokenizer.ggml.tokens"),
        _field(reader, "tokenizer.ggml.token_type"),
    )
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(vocab=dict(zip(tokens, range(len(tokens)), strict=True)), merges=merges)
    )
    # The file says only `pre = smollm`; without the digit split numbers tokenise differently.
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(reader, tokens))
    _write_json(folder / "special_tokens_map.json", _special(tokens))


def _special(tokens: list[str]) -> dict[str, str]:
    return {
        "bos_token": tokens[1],
        "eos_token": tokens[2],
        "unk_token": tokens[0],
        "pad_token": tokens[2],
    }


def _tokenizer_config(reader: Any, tokens: list[str]) -> dict[str, Any]:
    return {
        "add_prefix_space": False,
        "chat_template": _field(reader, "tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        # Without it transformers 4 adds token_type_ids, which Llama's generate refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": CONTEXT,
        # Both transformers 4 and 5 load this name; 5 would write TokenizersBackend, which 4 lacks.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_special(tokens),
    }


def _check(reader: Any) -> None:
    """Refuse any other model: names, sizes and tensors must be the ones described above."""
    found = {
        "block_count": LAYERS,
        "embedding_length": HIDDEN,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
    }
    for key, expected in found.items():
        value = _field(reader, f"llama.{key}")
        if value != expected:
            raise ValueError(f"llama.{key} is {value}, expected {expected}: another model")
    if len(reader.tensors) != 9 * LAYERS + 2:
        raise ValueError(f"{len(reader.tensors)} tensors, expected {9 * LAYERS + 2}")


def _field(reader: Any, name: str) -> Any:
    if name not in reader.fields:
        raise ValueError(f"the GGUF file has no field {name}")
    return reader.fields[name].contents()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
