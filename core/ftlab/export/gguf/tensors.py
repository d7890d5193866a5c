"""The weights of a model under llama.cpp's names, in its order of rows, one at a time.

rows of q and k     llama.cpp's llama rotates features 2i and 2i + 1 of a head, transformers
                    i and i + D/2: the rows of each head are put in that order
norms of Gemma      w + 1, since llama.cpp multiplies by the weight itself
RoPE of Llama 3     rope_freqs: how many times slower each pair of features turns
LongRoPE            rope_factors_short and rope_factors_long
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf.architecture import Architecture
from ftlab.models.rope import inverse_frequencies
from ftlab.models.spec import DecoderSpec, RopeSpec


def named(model: Any, spec: DecoderSpec, architecture: Architecture) -> list[tuple[str, Tensor]]:
    """llama.cpp's name and the model's own tensor, not yet changed; what it leaves out is left out.

    A head that is tied to the embedding is not written: llama.cpp takes the embedding. Nor is a
    vision tower.

    Raises:
        EnvironmentUnfit: a tensor that llama.cpp has no name for.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = get_tensor_name_map(number, spec.num_layers)
    found: list[tuple[str, Tensor]] = []
    embedding = model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        inside = name.startswith(f"{spec.root}.")
        if not inside and (name != "lm_head.weight" or _same(tensor, embedding)):
            continue
        plain = f"model{name.removeprefix(spec.root)}" if inside else name
        given = names.get_name(plain, try_suffixes=(".weight", ".bias"))
        if given is None:
            raise EnvironmentUnfit(f"llama.cpp's {architecture.name} has no tensor for {name}")
        found.append((given, tensor))
    return found


def values(name: str, tensor: Tensor, spec: DecoderSpec, architecture: Architecture) -> Tensor:
    """What is written under that name, in fp32 on the CPU."""
    held = tensor.detach().to("cpu", torch.float32)
    if name.endswith("_norm.weight"):
        return held + spec.norm_offset if spec.norm_offset else held
    heads = {"attn_q": spec.num_heads, "attn_k": spec.num_kv_heads}.get(name.split(".")[-2])
    if architecture.neighbours and heads:
        return halves_to_neighbours(held, heads)
    return held


def halves_to_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Rows [heads * D, ...]: row i of a head goes to 2i, row i + D/2 to 2i + 1."""
    half = weight.shape[0] // heads // 2
    split = weight.reshape(heads, 2, half, *weight.shape[1:])
    return split.transpose(1, 2).reshape(weight.shape)


def rope_tensors(rope: RopeSpec) -> Iterator[tuple[str, Tensor]]:
    """What llama.cpp reads of a RoPE as tensors, each [dim / 2] in fp32."""
    if rope.kind == "llama3":
        plain = inverse_frequencies(RopeSpec(dim=rope.dim, theta=rope.theta), 1)
        yield "rope_freqs.weight", plain / inverse_frequencies(rope, 1)
    if rope.kind == "longrope":
        yield "rope_factors_long.weight", torch.tensor(rope.long_factor)
        yield "rope_factors_short.weight", torch.tensor(rope.short_factor)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()
