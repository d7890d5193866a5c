"""Merging: the adapter added into the base weights, giving an ordinary Hugging Face model.

    LoRA:  W' = W + s B A
    DoRA:  W' = m / ||W + s B A||_2 (W + s B A)     per output feature

Computed in fp32 and rounded once to the dtype of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftlab.lora.layers import LoraTensors, lora_of
from ftlab.models.quantised import frozen_weight

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@torch.no_grad()
def merge(model: PeftModel, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Add the active adapter into its base model, in place, and take PEFT's layers out.

    One layer at a time, so that memory stays that of the result.

    Args:
        model: the PeftModel; it is used up.
        dtype: of the merged weights; by default each weight's own. Quantised weights cannot hold
            the sum exactly and become dense, in the dtype they were quantised from.

    Returns:
        the Hugging Face model without PEFT, frozen.

    Raises EnvironmentUnfit for adapters that `lora_of` refuses.
    """
    base: Any = model.get_base_model()
    for name, module in list(base.named_modules()):
        parent, _, child = name.rpartition(".")
        inside = child == "base_layer"  # goes with the layer around it
        replacement = None if inside else _replacement(name, module)
        if replacement is not None:
            setattr(base.get_submodule(parent), child, replacement)
    if getattr(base, "hf_quantizer", None) is not None:
        base.hf_quantizer.remove_quantization_config(base)
    if dtype is not None:
        base.to(dtype)
    _settle_tying(base)
    return base.requires_grad_(False)


def _replacement(name: str, module: Any) -> nn.Module | None:
    """The ordinary module that takes this one's place; None where it stays."""
    if type(module).__name__ == "ModulesToSaveWrapper":
        trained: nn.Module = module.modules_to_save[module.active_adapters[0]]
        return trained.to(module.original_module.weight.dtype)
    inner = getattr(module, "base_layer", module)
    lora = lora_of(name, module)
    packed = frozen_weight(name, inner)
    if lora is None and inner is module and packed is None:
        return None
    held = inner.weight.dtype if packed is None else _stored_dtype(inner)
    weight = inner.weight if packed is None else packed.dequantise(torch.float32)
    merged = weight if lora is None else merged_weight(weight.float(), lora)
    return _linear(merged.to(held), inner.bias)


def merged_weight(weight: Tensor, lora: LoraTensors) -> Tensor:
    """W' [N, K] in fp32 from W [N, K] in fp32 and the adapter."""
    total = torch.addmm(weight, lora.b.float(), lora.a.float(), alpha=lora.scaling)
    if lora.magnitude is None:
        return total
    norm: Tensor = torch.linalg.norm(total, dim=1)
    return (lora.magnitude.float() / norm)[:, None] * total


def _stored_dtype(module: Any) -> torch.dtype:
    """The floating dtype of a quantised layer's values (8-bit ones come from fp16)."""
    state = getattr(module.weight, "quant_state", None)
    return torch.float16 if state is None else state.dtype


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    out, into = weight.shape
    linear = nn.Linear(into, out, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
    return linear


def _settle_tying(base: Any) -> None:
    """A head that was trained apart from the embedding must not be tied to it on loading."""
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    tied = base.config.get_text_config().tie_word_embeddings
    if tied and head is not None and head.weight is not embedding.weight:
        base.config.tie_word_embeddings = False
        base.config.get_text_config().tie_word_embeddings = False
        base.all_tied_weights_keys = {}
