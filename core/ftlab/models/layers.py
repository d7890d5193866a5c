"""The engine's view of a module: its tensors, bound once, and the operator that uses them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ftlab.lora.layers import LoraTensors
from ftlab.models.rng import DeviceKeys, StepRng
from ftlab_kernels.reference.dropout import dropout
from ftlab_kernels.reference.frozen_linear import FrozenWeight
from ftlab_kernels.reference.lora_linear import linear, lora_linear
from ftlab_kernels.reference.rms_norm import rms_norm

Weight = Tensor | FrozenWeight


@dataclass(frozen=True, slots=True)
class Mode:
    """How one pass runs."""

    rng: StepRng | DeviceKeys | None  # None: no dropout
    adapter: bool  # False: the base model, as PEFT with its adapter disabled


@dataclass(frozen=True, slots=True)
class Dense:
    """Weight and bias of a linear layer."""

    weight: Weight
    bias: Tensor | None

    def weight_in(self, dtype: torch.dtype) -> Tensor | FrozenWeight:
        """The weight for a product in `dtype`: cast if dense, itself if quantised."""
        return self.weight.to(dtype) if isinstance(self.weight, Tensor) else self.weight


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer [K -> N] with its adapter, if it has one."""

    name: str
    site: int  # unique number, part of the dropout key
    tuned: Dense
    base: Dense  # what is used with the adapter off
    lora: LoraTensors | None

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """x [T, K] in the compute dtype to [T, N]."""
        dense = self.tuned if mode.adapter else self.base
        weight = dense.weight_in(x.dtype)
        lora = self.lora if mode.adapter else None
        if lora is None:
            result = linear(x, weight)
            return result if dense.bias is None else result + dense.bias.to(x.dtype)
        dropped = None
        if lora.dropout and mode.rng is not None:
            dropped = dropout(x, lora.dropout, mode.rng.key(self.site))
        return lora_linear(
            x,
            weight,
            dense.bias,
            lora.a,
            lora.b,
            scaling=lora.scaling,
            dropped=dropped,
            magnitude=lora.magnitude,
        )


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMSNorm's weight with the family's conventions."""

    tuned: Tensor
    base: Tensor
    eps: float
    offset: float
    weight_fp32: bool

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Normalise the last axis of x."""
        weight = self.tuned if mode.adapter else self.base
        return rms_norm(x, weight, self.eps, self.offset, weight_fp32=self.weight_fp32)


@dataclass(frozen=True, slots=True)
class Embedding:
    """The token embedding with Gemma's scale."""

    tuned: Tensor
    base: Tensor
    padding_idx: int | None  # its row gets no gradient, as in torch
    scale: float

    def __call__(self, input_ids: Tensor, dtype: torch.dtype, mode: Mode) -> Tensor:
        """int64 [T] to [T, H] in `dtype`."""
        weight = self.tuned if mode.adapter else self.base
        rows = F.embedding(input_ids, weight, self.padding_idx).to(dtype)
        # The scale is rounded to the compute dtype first, as transformers does.
        return rows if self.scale == 1 else rows * torch.tensor(self.scale, dtype=dtype).item()


@dataclass(frozen=True, slots=True)
class Lookup:
    """Embeddings that nobody trains, looked up where they are needed: [T, H] in `dtype`."""

    embedding: Embedding
    input_ids: Tensor  # int64 [T]
    dtype: torch.dtype
    mode: Mode

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def device(self) -> torch.device:
        """Of the embeddings."""
        return self.input_ids.device

    def rows(self, rows: slice) -> Tensor:
        """Those of some tokens."""
        return self.embedding(self.input_ids[rows], self.dtype, self.mode)
