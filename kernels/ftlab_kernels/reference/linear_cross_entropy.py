"""Linear + cross-entropy reference on trained tokens only, never holding [T, V].

    z = logit_scale h W^T,  softcapped: z' = c tanh(z / c)
    l = lse(z'),   loss = l - (1 - e) z'[label] - e mean_v z'[v] + k l^2   (e: smoothing, k: z-loss)
    dz' = p (1 + 2 k l) - (1 - e) onehot(label) - e / V,   dz = dz' (1 - (z' / c)^2)
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

from ftlab_kernels.head_chunk import REFERENCE_TOKENS

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Head:
    """From h W^T to the loss and back; the same for every chunk."""

    softcap: float | None
    scale: float
    smoothing: float
    z_loss: float

    def logits(self, product: Tensor) -> Tensor:
        """fp32 [C, V] of h W^T, a new tensor."""
        wide = torch.promote_types(product.dtype, torch.float32)
        values = product.to(wide, copy=True)
        if self.scale != 1:
            values *= self.scale
        return values if self.softcap is None else self.softcap * torch.tanh(values / self.softcap)

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and log-sum-exp, both fp32 [C]; labels below 0 count as 0."""
        lse = torch.logsumexp(logits, dim=-1)
        picked = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        if self.smoothing:
            picked = (1 - self.smoothing) * picked + self.smoothing * logits.mean(-1)
        loss = lse - picked
        return (loss + self.z_loss * lse * lse if self.z_loss else loss), lse

    def slope(self, logits: Tensor, lse: Tensor, labels: Tensor) -> Tensor:
        """d loss / d (h W^T), fp32 [C, V]. Overwrites `logits` where it can."""
        bend = None if self.softcap is None else 1 - (logits / self.softcap) ** 2
        slope = logits.sub_(lse[:, None]).exp_()
        if self.z_loss:
            slope *= 1 + 2 * self.z_loss * lse[:, None]
        if self.smoothing:
            slope -= self.smoothing / logits.shape[1]
        rows = torch.arange(len(labels), device=labels.device)
        slope[rows, labels.clamp(min=0)] += self.smoothing - 1
        if bend is not None:
            slope *= bend
        return slope if self.scale == 1 else slope.mul_(self.scale)

    def rows(
        self,
        product: Tensor,
        labels: Tensor,
        losses: Tensor | None,
        lse: Tensor,
        *,
        slope: bool,
        grad: Tensor | None,
        gain: float,
    ) -> None:
        """What the kernel does to a chunk h W^T, in place; rows with a label below 0 give 0."""
        logits = self.logits(product)
        trained = labels >= 0
        if losses is not None:
            loss, lse[:] = self.loss(logits, labels)
            losses[:] = loss * trained
        if slope:
            factor = gain * trained.to(lse.dtype) * (1 if grad is None else grad)
            product.copy_(self.slope(logits, lse, labels).mul_(factor[:, None]))


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int | None = None,
) -> Tensor:
    """Cross-entropy of every token against its label.

    Args:
        hidden: [T, H]; its dtype is the compute dtype.
        weight: [V, H], any dtype; gradients come back in it, summed in fp32.
        labels: int64 [T], -100 where no loss is taken.
        softcap: logits become softcap tanh(logits / softcap) (Gemma 2).
        logit_scale: multiplies the logits.
        label_smoothing: share of the target spread evenly over the vocabulary.
        z_loss: coefficient of lse^2 (Chowdhery et al. 2022, "PaLM").
        chunk: tokens whose logits exist at one time, None for 256; part of the result's bits.

    Returns:
        fp32 [T], 0 where the label is -100.
    """
    trained = torch.nonzero(labels != IGNORED)[:, 0]
    everything = trained.numel() == labels.numel()
    picked = hidden if everything else hidden.index_select(0, trained)
    targets = labels if everything else labels.index_select(0, trained)
    losses: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        picked, weight, targets, Head(softcap, logit_scale, label_smoothing, z_loss),
        chunk or REFERENCE_TOKENS,
    )  # fmt: skip
    if everything:
        return losses
    spread = torch.zeros(labels.shape, dtype=losses.dtype, device=losses.device)
    return spread.index_copy(0, trained, losses)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, head: Head, chunk: int
    ) -> Tensor:
        product = weight.to(hidden.dtype)
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
            logits = head.logits(hidden[part] @ product.t())
            losses[part], lse[part] = head.loss(logits, labels[part])
            if slopes is not None:
                slope = head.slope(logits, lse[part], labels[part]).to(hidden.dtype)
                torch.mm(slope, product, out=slopes[part])
        ctx.head, ctx.chunk, ctx.early = head, chunk, early
        ctx.save_for_backward(*((slopes,) if early else (hidden, weight, labels, lse)))
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (slopes,) = ctx.saved_tensors
            return (slopes * grad[:, None]).to(slopes.dtype), *(None,) * 4
        return (*_backward(ctx, grad), *(None,) * 3)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """dh and dW with the logits computed again, chunk by chunk."""
    hidden, weight, labels, lse = ctx.saved_tensors
    head, product = ctx.head, weight.to(hidden.dtype)
    needs_hidden, needs_weight = ctx.needs_input_grad[:2]
    d_hidden = torch.empty_like(hidden) if needs_hidden else None
    d_weight = torch.zeros(weight.shape, dtype=lse.dtype, device=weight.device)
    for part in _parts(len(labels), ctx.chunk):
        logits = head.logits(hidden[part] @ product.t())
        slope = head.slope(logits, lse[part], labels[part])
        slope = slope.mul_(grad[part, None]).to(hidden.dtype)
        if d_hidden is not None:
            torch.mm(slope, product, out=d_hidden[part])
        if needs_weight:
            _add_product(d_weight, slope, hidden[part])
    return d_hidden, d_weight.to(weight.dtype) if needs_weight else None


def _add_product(total: Tensor, slope: Tensor, hidden: Tensor) -> None:
    """total += slope^T hidden in total's dtype: no chunk's sum is rounded to 16 bits."""
    total.addmm_(slope.t().to(total.dtype), hidden.to(total.dtype))


def _parts(tokens: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, tokens)) for start in range(0, tokens, chunk)]
