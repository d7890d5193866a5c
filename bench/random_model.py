"""Random-weight Llama models of true shapes, made on the GPU layer by layer: nothing downloaded.

Values are a function of (seed, name), so every side of a comparison measures the same model.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

SHAPES: dict[str, dict[str, Any]] = {
    "8b": {  # Llama 3
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "rope_theta": 500000.0, "tie_word_embeddings": False,
    },
    "1b": {  # Llama 3.2
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 64, "rope_theta": 500000.0, "tie_word_embeddings": True,
    },
    "smollm2": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "rope_theta": 100000.0, "tie_word_embeddings": True,
    },
    "tiny": {  # to try the script without a GPU
        "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
    },
}  # fmt: skip
_STD = 0.02  # of every matrix


def build(
    shape: str, precision: str, device: str, *, layers: int | None = None, positions: int = 0
) -> Any:
    """A LlamaForCausalLM on `device` with weights in "bf16", "fp32" or "nf4" (double quantised)."""
    import transformers

    config = _config(shape, layers, positions)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    for name, module in list(model.named_modules()):
        _materialise(model, name, module, precision, dtype, device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(config=config).to(device)
    model.config.torch_dtype = dtype
    return model.requires_grad_(False)


def _config(shape: str, layers: int | None = None, positions: int = 0) -> Any:
    import transformers

    settings = dict(SHAPES[shape])
    if layers:
        settings["num_hidden_layers"] = layers
    return transformers.LlamaConfig(
        **settings, max_position_embeddings=max(131072, positions), rms_norm_eps=1e-5,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def write_config(shape: str, folder: Path, tokenizer: Path | None, positions: int = 0) -> None:
    """What a loader reads before the weights: the config, and somebody's tokenizer."""
    import shutil

    config = _config(shape, positions=positions)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if tokenizer is not None and (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)


@torch.no_grad()
def _materialise(
    model: nn.Module, name: str, module: nn.Module, precision: str, dtype: torch.dtype, device: str
) -> None:
    if isinstance(module, nn.Linear):
        weight = _random(name, tuple(module.weight.shape), dtype, device)
        if precision == "nf4" and name != "lm_head":
            _replace(model, name, _four_bit(module, weight, device))
        else:
            module.weight = nn.Parameter(weight)
    elif isinstance(module, nn.Embedding):
        module.weight = nn.Parameter(_random(name, tuple(module.weight.shape), dtype, device))
    elif isinstance(getattr(module, "weight", None), nn.Parameter):
        module.weight = nn.Parameter(torch.ones(module.weight.shape, dtype=dtype, device=device))


def _random(name: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    weight = torch.empty(shape, dtype=dtype, device=device)
    return weight.normal_(0, _STD, generator=generator)


def _four_bit(module: nn.Linear, weight: torch.Tensor, device: str) -> nn.Module:
    import bitsandbytes as bnb

    made = bnb.nn.Linear4bit(
        module.in_features, module.out_features, bias=False, compute_dtype=torch.bfloat16,
        compress_statistics=True, quant_type="nf4", device="meta",
    )  # fmt: skip
    made.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True
    ).to(device)
    made.weight.module = made
    made.quant_state = made.weight.quant_state
    return made


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
