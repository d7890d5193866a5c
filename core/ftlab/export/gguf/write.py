"""One GGUF file: what describes the model, its tokenizer, its weights; one tensor in memory.

Vectors (norms, biases) stay fp32, as llama.cpp wants them. q8_0 holds 32 values of a row in 34
bytes; a matrix whose rows do not divide by 32 is fp16 in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf import architecture as architectures
from ftlab.export.gguf import tensors, vocabulary
from ftlab.export.gguf.vocabulary import Vocabulary
from ftlab.models.spec import DecoderSpec

KINDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}  # ours: GGUF's
_FILE_TYPES = {"fp32": 0, "fp16": 1, "bf16": 32, "q8_0": 7}  # llama.cpp's numbers
_ROW = 32  # values that q8_0 puts together
# llama.cpp lets the special tokens of a model of this name take the space after them, and looks
# for these tokens in it.
_PHI = ("phi-3", "phi3")
_PHI_TOKENS = {"</s>", "<unk>", "<s>", "<|endoftext|>"}


@dataclass(frozen=True, slots=True)
class Content:
    """All that goes into a file, checked before anything is written."""

    name: str
    kind: str
    spec: DecoderSpec
    architecture: architectures.Architecture
    words: Vocabulary
    weights: list[tuple[str, Tensor]]


def gather(model: Any, tokenizer: Any, spec: DecoderSpec, kind: str, name: str) -> Content:
    """Describe a whole model, without an adapter beside it.

    Args:
        model: Hugging Face causal LM.
        kind: fp32, fp16, bf16 or q8_0.
        name: of the model, for people.
    Raises:
        EnvironmentUnfit: llama.cpp would not compute what this model does, with the reasons.
    """
    described = architectures.describe(spec)
    rows = model.get_input_embeddings().weight.shape[0]
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    words = vocabulary.describe(tokenizer, rows, ends)
    return Content(name, kind, spec, described, words, tensors.named(model, spec, described))


def size(content: Content) -> int:
    """Bytes that the tensors take; what describes them comes to a few MB more."""
    total = 0
    for _, tensor in content.weights:
        held = stored_kind(tensor, content.kind)
        bits = {"F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5}[held]
        total += int(tensor.numel() * bits / 8)
    return total


def write(content: Content, path: Path) -> None:
    """Write the file. The same model gives the same bytes.

    Raises:
        EnvironmentUnfit: a weight is too large for fp16.
        OSError: as the disk says.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), content.architecture.name)
    try:
        _describe(writer, content)
        rope = list(tensors.rope_tensors(content.spec.ropes[0]))
        for name, tensor in [*rope, *content.weights]:
            _announce(writer, name, tensor, content.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in [*rope, *_values(content)]:
            writer.write_tensor_data(encoded(name, tensor, content.kind))
    finally:
        writer.close()


def fitting_name(name: str, words: Vocabulary) -> str:
    """The name in the file: with phi-3 in it if and only if the tokenizer behaves like Phi-3's."""
    has = any(part in name.lower() for part in _PHI)
    if words.swallowing and words.tokens and set(words.tokens) >= _PHI_TOKENS:
        return name if has else f"{name} phi-3"
    return re.sub("phi-?3", "phi 3", name, flags=re.IGNORECASE) if has else name


def notes(content: Content) -> list[str]:
    """What a person should know of the file."""
    found = list(content.architecture.notes)
    name = fitting_name(content.name, content.words).lower()
    if content.words.swallowing and not any(part in name for part in _PHI):
        found.append(
            f"llama.cpp keeps the white space after {', '.join(content.words.swallowing[:3])}, "
            f"which the tokenizer drops: put none there"
        )
    return found


def encoded(name: str, tensor: Tensor, kind: str) -> Any:
    """fp32 values as the numpy array that goes into the file."""
    from gguf import GGMLQuantizationType, quants

    held = stored_kind(tensor, kind)
    array = tensor.contiguous().numpy()
    if held == "F16" and bool((tensor.abs() > torch.finfo(torch.float16).max).any()):
        raise EnvironmentUnfit(f"{name} has values too large for fp16; take bf16")
    return quants.quantize(array, GGMLQuantizationType[held])


def stored_kind(tensor: Tensor, kind: str) -> str:
    """GGUF's name of how that tensor lies in a file of `kind`."""
    if tensor.dim() < 2:
        return "F32"
    if kind == "q8_0" and tensor.shape[-1] % _ROW:
        return "F16"
    return KINDS[kind]


def _values(content: Content) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in content.weights:
        yield name, tensors.values(name, tensor, content.spec, content.architecture)


def _announce(writer: Any, name: str, tensor: Tensor, kind: str) -> None:
    """Shape, kind and bytes of a tensor, which stand before all tensors."""
    import numpy
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    held = GGMLQuantizationType[stored_kind(tensor, kind)]
    shape = tuple(tensor.shape)
    if held.name in ("F32", "F16"):
        dtype = numpy.dtype(numpy.float32 if held.name == "F32" else numpy.float16)
        writer.add_tensor_info(name, shape, dtype, tensor.numel() * dtype.itemsize, held)
        return
    packed = quant_shape_to_byte_shape(shape, held)
    size = int(numpy.prod(packed))
    writer.add_tensor_info(name, packed, numpy.dtype(numpy.uint8), size, held)


def _describe(writer: Any, content: Content) -> None:
    """Everything before the tensors."""
    writer.add_type("model")
    writer.add_name(fitting_name(content.name, content.words))
    writer.add_file_type(_FILE_TYPES[content.kind])
    writer.add_quantization_version(2)
    prefix = content.architecture.name
    writer.add_uint32(f"{prefix}.vocab_size", len(content.words.tokens))
    for key, value in content.architecture.fields.items():
        if isinstance(value, str):
            writer.add_string(f"{prefix}.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{prefix}.{key}", value)
        else:
            writer.add_uint32(f"{prefix}.{key}", value)
    _describe_words(writer, content.words)


def _describe_words(writer: Any, words: Vocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    if words.merges:
        writer.add_token_merges(words.merges)
    if words.scores:
        writer.add_token_scores(words.scores)
    for key, number in words.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{key}", number)
    for key, flag in words.flags.items():
        writer.add_bool(f"tokenizer.ggml.{key}", flag)
    if words.template:
        writer.add_chat_template(words.template)
