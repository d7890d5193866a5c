"""One decoder layer: norms, attention, MLP and residuals of every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ftlab.models.layers import Mode, Norm, Projection
from ftlab.models.spec import DecoderSpec
from ftlab_kernels.reference.attention import Layout, attention
from ftlab_kernels.reference.geglu import geglu
from ftlab_kernels.reference.rope import rope
from ftlab_kernels.reference.swiglu import swiglu

Tables = tuple[Tensor, Tensor]
LAYER_SITES = 16  # dropout keys reserved for each layer


@dataclass(frozen=True, slots=True)
class Block:
    """The bound parts of one layer and the numbers that belong to it."""

    spec: DecoderSpec
    window: int | None
    rope: int | None  # index of the tables, None without positions
    linears: dict[str, Projection]
    attention_norm: Norm  # before attention
    mlp_norm: Norm  # before the MLP
    attention_out_norm: Norm | None = None  # after attention (Gemma 2 and 3)
    mlp_out_norm: Norm | None = None  # after the MLP (Gemma 2 and 3)
    q_norm: Norm | None = None
    k_norm: Norm | None = None

    def __call__(self, x: Tensor, tables: Sequence[Tables], layout: Layout, mode: Mode) -> Tensor:
        """x [T, H] through the layer; same shape and dtype."""
        update = self._attention(self.attention_norm(x, mode), tables, layout, mode)
        x = x + (
            update if self.attention_out_norm is None else self.attention_out_norm(update, mode)
        )
        update = self._mlp(self.mlp_norm(x, mode), mode)
        return x + (update if self.mlp_out_norm is None else self.mlp_out_norm(update, mode))

    def _attention(self, x: Tensor, tables: Sequence[Tables], layout: Layout, mode: Mode) -> Tensor:
        q, k, v = self._heads(x, mode)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q, mode), self.k_norm(k, mode)
        if self.rope is not None:
            q, k = rope(q, k, *tables[self.rope])
        scale, softcap = self.spec.attention_scale, self.spec.attention_softcap
        out = attention(q, k, v, layout, scale, self.window, softcap)
        return self.linears["o_proj"](out.flatten(1), mode)

    def _heads(self, x: Tensor, mode: Mode) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, Hq, D], k and v [T, Hkv, D]."""
        spec = self.spec
        if spec.fused_qkv:
            fused = self.linears["qkv_proj"](x, mode).view(len(x), -1, spec.head_dim)
            q, k, v = torch.split(fused, [spec.num_heads, *[spec.num_kv_heads] * 2], dim=1)
            return q, k, v
        q, k, v = (
            self.linears[name](x, mode).view(len(x), -1, spec.head_dim)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        return q, k, v

    def _mlp(self, x: Tensor, mode: Mode) -> Tensor:
        if self.spec.fused_gate_up:
            gate, up = self.linears["gate_up_proj"](x, mode).chunk(2, dim=-1)
        else:
            gate, up = (self.linears[name](x, mode) for name in ("gate_proj", "up_proj"))
        return self.linears["down_proj"](self._activate(gate, up), mode)

    def _activate(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.spec.activation == "silu":
            return swiglu(gate, up)
        return geglu(gate, up, "tanh" if self.spec.activation == "gelu_tanh" else "none")
