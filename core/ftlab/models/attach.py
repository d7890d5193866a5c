"""Binding the engine to a Hugging Face causal LM or PEFT model: by instance, nothing patched.

Everything trainable must be bound, or the engine would leave it without a gradient: what is not
is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ftlab.errors import EnvironmentUnfit
from ftlab.lora.layers import LoraTensors, lora_of
from ftlab.models.block import LAYER_SITES, Block
from ftlab.models.engine import Decoder
from ftlab.models.families import spec_from_config
from ftlab.models.layers import Dense, Embedding, Norm, Projection, Weight
from ftlab.models.quantised import frozen_weight
from ftlab.models.spec import DecoderSpec

_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj")  # the others are the MLP's


def attach(model: nn.Module, *, compute_dtype: torch.dtype | None = None) -> Decoder:
    """Bind a decoder to a model's parameters.

    Args:
        model: a Hugging Face causal LM of a supported family, or the PeftModel around one. Call
            it before adapters are loaded from a checkpoint: what is the base is decided now.
        compute_dtype: dtype of activations; by default that of the token embedding.

    Raises EnvironmentUnfit for architectures, modules, adapters or trainable parameters that the
    engine does not compute, each by name.
    """
    causal = base_model(model)
    spec = spec_from_config(_config(causal))
    binder = _Binder(spec, causal)
    embedding, blocks, norm, head = binder.bind()
    _refuse_unbound(model, binder.bound)
    dtype = compute_dtype or embedding.tuned.dtype
    return Decoder(
        model=model,
        spec=spec,
        compute_dtype=dtype,
        embedding=embedding,
        blocks=blocks,
        norm=norm,
        head=head,
    )


def base_model(model: Any) -> nn.Module:
    """The Hugging Face causal LM itself, also inside a PeftModel."""
    inner: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner


def _config(causal: Any) -> dict[str, Any]:
    """The model's config with the class that it really is."""
    values: dict[str, Any] = causal.config.to_dict()
    return {**values, "architectures": [type(causal).__name__]}


def _refuse_unbound(model: nn.Module, bound: Iterable[int]) -> None:
    known = set(bound)
    lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in known]
    if lost:
        shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise EnvironmentUnfit(f"these trainable parameters are not part of the decoder: {shown}")


@dataclass
class _Binder:
    """Walks the modules that the spec names and remembers which parameters it took."""

    spec: DecoderSpec
    causal: nn.Module
    bound: set[int] = field(default_factory=set)

    def bind(self) -> tuple[Embedding, tuple[Block, ...], Norm, Projection]:
        """Embedding, layers, final norm and head."""
        root = self._find(self.causal, self.spec.root, "")
        prefix = f"{self.spec.root}."
        layers: Any = self._find(root, "layers", prefix)
        found = len(layers) if isinstance(layers, nn.ModuleList) else 0
        if found != self.spec.num_layers:
            raise EnvironmentUnfit(f"{prefix}layers holds {found}, not {self.spec.num_layers}")
        return (
            self._embedding(root, prefix),
            tuple(self._block(i, layers[i], f"{prefix}layers.{i}.") for i in range(found)),
            self._norm(root, "norm", prefix),
            self._head(),
        )

    def _head(self) -> Projection:
        head = self._projection(self.causal, "lm_head", "", self.spec.num_layers * LAYER_SITES)
        if head.tuned.bias is not None:
            raise EnvironmentUnfit("lm_head has a bias, which the engine does not compute")
        if head.lora is not None and (head.lora.dropout or head.lora.magnitude is not None):
            raise EnvironmentUnfit(
                "lm_head carries LoRA with dropout or DoRA, which the engine does not compute; "
                "train it whole through modules_to_save"
            )
        return head

    def _block(self, index: int, layer: nn.Module, prefix: str) -> Block:
        spec = self.spec
        attention = self._find(layer, "self_attn", prefix)
        mlp = self._find(layer, "mlp", prefix)
        linears = {}
        for number, name in enumerate(spec.layer_linears()):
            inside, part = (attention, "self_attn") if name in _ATTENTION else (mlp, "mlp")
            site = index * LAYER_SITES + number
            linears[name] = self._projection(inside, name, f"{prefix}{part}.", site)
        heads = f"{prefix}self_attn."
        return Block(
            spec=spec,
            window=spec.windows[index],
            rope=spec.rope_of_layer[index],
            linears=linears,
            q_norm=self._norm(attention, "q_norm", heads) if spec.qk_norm else None,
            k_norm=self._norm(attention, "k_norm", heads) if spec.qk_norm else None,
            **self._layer_norms(layer, prefix),
        )

    def _layer_norms(self, layer: nn.Module, prefix: str) -> dict[str, Norm]:
        names = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
        if self.spec.sandwich_norms:
            names = {
                "attention_norm": "input_layernorm",
                "attention_out_norm": "post_attention_layernorm",
                "mlp_norm": "pre_feedforward_layernorm",
                "mlp_out_norm": "post_feedforward_layernorm",
            }
        return {role: self._norm(layer, name, prefix) for role, name in names.items()}

    def _embedding(self, root: nn.Module, prefix: str) -> Embedding:
        tuned, base = _versions(self._find(root, "embed_tokens", prefix))
        for module in (tuned, base):
            if not isinstance(module, nn.Embedding):
                raise _unknown(f"{prefix}embed_tokens", module)
        return Embedding(
            self._take(tuned.weight), base.weight, tuned.padding_idx, self.spec.embedding_scale
        )

    def _norm(self, parent: nn.Module, name: str, prefix: str) -> Norm:
        tuned, base = _versions(self._find(parent, name, prefix))
        for module in (tuned, base):
            if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "weight"):
                raise _unknown(f"{prefix}{name}", module)
        spec = self.spec
        return Norm(
            self._take(tuned.weight),
            base.weight,
            spec.norm_eps,
            spec.norm_offset,
            spec.norm_weight_fp32,
        )

    def _projection(self, parent: nn.Module, name: str, prefix: str, site: int) -> Projection:
        full = f"{prefix}{name}"
        tuned, base = _versions(self._find(parent, name, prefix))
        lora = lora_of(full, tuned)
        inner = getattr(tuned, "base_layer", tuned)
        tuned_dense = self._dense(full, inner)
        if base is not tuned:
            base_dense = Dense(_weight(full, base), getattr(base, "bias", None))
        else:
            base_dense = Dense(tuned_dense.weight, self._original(tuned_dense.bias))
        self._take_lora(lora)
        return Projection(full, site, tuned_dense, base_dense, lora)

    def _dense(self, name: str, module: nn.Module) -> Dense:
        weight, bias = _weight(name, module), getattr(module, "bias", None)
        for tensor in (weight, bias):
            if isinstance(tensor, nn.Parameter):
                self._take(tensor)
        return Dense(weight, bias)

    def _original(self, bias: Tensor | None) -> Tensor | None:
        """PEFT trains biases in place; the base model keeps the value they have now."""
        trained = bias is not None and bias.requires_grad and _is_peft(self.causal)
        return bias.detach().clone() if trained and bias is not None else bias

    def _take_lora(self, lora: LoraTensors | None) -> None:
        if lora is not None:
            for parameter in (lora.a, lora.b, lora.magnitude):
                if parameter is not None:
                    self._take(parameter)

    def _take(self, parameter: Any) -> Any:
        self.bound.add(id(parameter))
        return parameter

    def _find(self, parent: nn.Module, path: str, prefix: str) -> nn.Module:
        module = parent
        for part in path.split("."):
            child = getattr(module, part, None)
            if not isinstance(child, nn.Module):
                raise EnvironmentUnfit(f"the model has no module {prefix}{path}")
            module = child
        return module


def _versions(module: Any) -> tuple[Any, Any]:
    """The module in use and the original, which differ where PEFT trains a copy."""
    if type(module).__name__ == "ModulesToSaveWrapper":
        for active in module.active_adapters:
            return module.modules_to_save[active], module.original_module
        return module.original_module, module.original_module
    return module, module


def _weight(name: str, module: Any) -> Weight:
    packed: Weight | None = frozen_weight(name, module)
    if packed is not None:
        return packed
    if type(module) is not nn.Linear:
        raise _unknown(name, module)
    dense = module.weight
    if not dense.is_floating_point() or dense.is_meta:
        raise EnvironmentUnfit(f"{name} holds {dense.dtype} on {dense.device}, expected floats")
    return dense


def _is_peft(causal: nn.Module) -> bool:
    return any(hasattr(module, "lora_A") for module in causal.modules())


def _unknown(name: str, module: Any) -> EnvironmentUnfit:
    return EnvironmentUnfit(f"{name} is a {type(module).__name__}, which the engine cannot compute")
