"""Reading a PEFT LoRA layer: the tensors and numbers the engine needs, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ftlab.errors import EnvironmentUnfit

_PREFIX = "PEFT layer"


@dataclass(frozen=True, slots=True)
class LoraTensors:
    """The adapter of one projection. Parameters are PEFT's own, so training changes them."""

    a: nn.Parameter  # [r, K]
    b: nn.Parameter  # [N, r]
    scaling: float  # alpha / r, or alpha / sqrt(r) with rsLoRA
    dropout: float
    magnitude: nn.Parameter | None  # [N] for DoRA


def lora_of(name: str, module: nn.Module) -> LoraTensors | None:
    """The active adapter of a PEFT LoRA layer; None for a plain module.

    Raises EnvironmentUnfit, naming the module, for what the engine does not compute: merged or
    several active adapters, LoRA variants other than DoRA, LoRA biases, embeddings.
    """
    from peft.tuners.lora import LoraLayer

    if not isinstance(module, LoraLayer):
        return None
    adapter = _active(name, module)
    if adapter is None:
        return None
    if adapter not in module.lora_A:
        raise _unfit(name, module, "has an adapter that is not a linear one")
    variant = module.lora_variant.get(adapter)
    dora = bool(module.use_dora[adapter])
    if variant is not None and not dora:
        raise _unfit(name, module, f"uses the LoRA variant {type(variant).__name__}")
    if module.lora_bias[adapter]:
        raise _unfit(name, module, "has a bias on lora_B (lora_bias)")
    return LoraTensors(
        a=module.lora_A[adapter].weight,
        b=module.lora_B[adapter].weight,
        scaling=float(module.scaling[adapter]),
        dropout=float(getattr(module.lora_dropout[adapter], "p", 0.0)),
        magnitude=module.lora_magnitude_vector[adapter].weight if dora else None,
    )


def _active(name: str, module: Any) -> str | None:
    """The one active adapter of this layer, or None where it is switched off."""
    if module.merged_adapters:
        raise _unfit(name, module, "is merged; unmerge the adapter before training")
    known = {*module.lora_A, *module.lora_embedding_A}
    active = [] if module.disable_adapters else [a for a in module.active_adapters if a in known]
    if len(active) > 1:
        raise _unfit(name, module, f"has several active adapters ({', '.join(active)})")
    return active[0] if active else None


def _unfit(name: str, module: nn.Module, what: str) -> EnvironmentUnfit:
    return EnvironmentUnfit(f"{_PREFIX} {name} ({type(module).__name__}) {what}")
