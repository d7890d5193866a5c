"""Linear + cross-entropy reference on trained tokens only, never holding [T, V].

    z = logit_scale h W^T,  softcapped: z' = c tanh(z / c)
    loss = lse(z') - (1 - e) z'[label] - e mean_v z'[v]                     (e: label smoothing)
    dz' = p - (1 - e) onehot(label) - e / V,   dz = dz' (1 - (z' / c)^2)
    dh = logit_scale g dz W,   dW = logit_scale sum_t g_t dz_t h_t^T         (g: gradient of loss)

Tokens with label -100 are taken out first. The rest goes through in chunks of a fixed size. A
frozen head keeps dz W, which is as small as h and needs no second pass over the vocabulary; a
trained head computes its logits again in the backward pass and sums dW in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # tokens whose logits exist at one time
IGNORED = -100


@dataclass(frozen=True, slots=True)
class _Head:
    """What is the same for every chunk."""

    weight: Tensor  # [V, H] in the compute dtype
    softcap: float | None
    scale: float
    smoothing: float

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 [C, V]."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        values = (hidden @ self.weight.t()).to(wide)
        if self.scale != 1:
            values *= self.scale
        return values if self.softcap is None else self.softcap * torch.tanh(values / self.softcap)

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and log-sum-exp, both fp32 [C]."""
        lse = torch.logsumexp(logits, dim=-1)
        picked = logits.gather(1, labels[:, None])[:, 0]
        if self.smoothing:
            picked = (1 - self.smoothing) * picked + self.smoothing * logits.mean(-1)
        return lse - picked, lse

    def slope(self, logits: Tensor, lse: Tensor, labels: Tensor) -> Tensor:
        """d loss / d (h W^T), fp32 [C, V]. Overwrites `logits` where it can."""
        bend = None if self.softcap is None else 1 - (logits / self.softcap) ** 2
        slope = logits.sub_(lse[:, None]).exp_()
        if self.smoothing:
            slope -= self.smoothing / logits.shape[1]
        slope[torch.arange(len(labels), device=labels.device), labels] += self.smoothing - 1
        if bend is not None:
            slope *= bend
        return slope if self.scale == 1 else slope.mul_(self.scale)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    label_smoothing: float = 0.0,
    chunk: int = CHUNK,
) -> Tensor:
    """Cross-entropy of every token against its label.

    Args:
        hidden: [T, H]; its dtype is the compute dtype.
        weight: [V, H], any dtype; gradients come back in it, summed in fp32.
        labels: int64 [T], -100 where no loss is taken.
        softcap: logits become softcap tanh(logits / softcap) (Gemma 2).
        logit_scale: multiplies the logits.
        label_smoothing: share of the target spread evenly over the vocabulary.
        chunk: tokens whose logits exist at one time; part of the result's bits.

    Returns:
        fp32 [T], 0 where the label is -100.
    """
    trained = torch.nonzero(labels != IGNORED)[:, 0]
    everything = trained.numel() == labels.numel()
    picked = hidden if everything else hidden.index_select(0, trained)
    targets = labels if everything else labels.index_select(0, trained)
    losses: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        picked, weight, targets, softcap, logit_scale, label_smoothing, chunk
    )
    if everything:
        return losses
    spread = torch.zeros(labels.shape, dtype=losses.dtype, device=losses.device)
    return spread.index_copy(0, trained, losses)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        softcap: float | None,
        logit_scale: float,
        label_smoothing: float,
        chunk: int,
    ) -> Tensor:
        head = _Head(weight.to(hidden.dtype), softcap, logit_scale, label_smoothing)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        # fp16 keeps its gradients in range through the loss scale, which only backward knows.
        early = needs_hidden and not needs_weight and hidden.dtype != torch.float16
        losses = torch.empty(
            len(labels),
            dtype=torch.promote_types(hidden.dtype, torch.float32),
            device=hidden.device,
        )
        lse, slopes = torch.empty_like(losses), torch.empty_like(hidden) if early else None
        for part in _parts(len(labels), chunk):
            logits = head.logits(hidden[part])
            losses[part], lse[part] = head.loss(logits, labels[part])
            if slopes is not None:
                slope = head.slope(logits, lse[part], labels[part]).to(hidden.dtype)
                torch.mm(slope, head.weight, out=slopes[part])
        ctx.settings = (softcap, logit_scale, label_smoothing, chunk)
        ctx.early = early
        ctx.save_for_backward(*((slopes,) if early else (hidden, weight, labels, lse)))
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (slopes,) = ctx.saved_tensors
            return (slopes * grad[:, None]).to(slopes.dtype), *(None,) * 6
        return (*_backward(ctx, grad), *(None,) * 5)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """dh and dW with the logits computed again, chunk by chunk."""
    hidden, weight, labels, lse = ctx.saved_tensors
    *settings, chunk = ctx.settings
    head = _Head(weight.to(hidden.dtype), *settings)
    needs_hidden, needs_weight = ctx.needs_input_grad[:2]
    d_hidden = torch.empty_like(hidden) if needs_hidden else None
    d_weight = torch.zeros(weight.shape, dtype=lse.dtype, device=weight.device)
    for part in _parts(len(labels), chunk):
        slope = head.slope(head.logits(hidden[part]), lse[part], labels[part])
        slope = slope.mul_(grad[part, None]).to(hidden.dtype)
        if d_hidden is not None:
            torch.mm(slope, head.weight, out=d_hidden[part])
        if needs_weight:
            _add_product(d_weight, slope, hidden[part])
    return d_hidden, d_weight.to(weight.dtype) if needs_weight else None


def _add_product(total: Tensor, slope: Tensor, hidden: Tensor) -> None:
    """total += slope^T hidden, in place where the dtypes allow it."""
    if total.dtype == slope.dtype:
        total.addmm_(slope.t(), hidden)
    else:
        total += slope.t() @ hidden


def _parts(tokens: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, tokens)) for start in range(0, tokens, chunk)]
