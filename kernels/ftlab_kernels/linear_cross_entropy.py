"""Linear + cross-entropy: two library products around one kernel, never holding [T, V].

    z = logit_scale h W^T,  softcapped: z' = c tanh(z / c),  l = lse(z')
    loss = l - (1 - e) z'[label] - e mean_v z'[v] + k l^2           (e: smoothing, k: z-loss)
    dz' = p (1 + 2 k l) - (1 - e) onehot(label) - e / V,   dz = dz' (1 - (z' / c)^2)
    dh = logit_scale g dz W,   dW = logit_scale sum_t g_t dz_t h_t^T

A chunk of tokens, whose size follows from V alone, has its logits h W^T in one reused 16-bit
buffer. The kernel reads a row once for the log-sum-exp (in fp32, blocks in order) and once more to
put dz in its place; the second product takes it from there. Logits are rounded to the compute
dtype, as every peer rounds them; the README holds the error budget.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.accumulate_product import accumulate_product
from ftlab_kernels.dispatch import choose
from ftlab_kernels.head_chunk import buffer_shape
from ftlab_kernels.lora_layout import runs_here
from ftlab_kernels.reference.linear_cross_entropy import IGNORED, Head
from ftlab_kernels.reference.linear_cross_entropy import linear_cross_entropy as reference
from ftlab_kernels.tuning import capability, lookup

FP16_GAIN = 2.0**14  # keeps small probabilities among fp16's normal numbers


@triton.jit
def _logits(p_z, o_v, m_v, scale, softcap, SOFTCAP: tl.constexpr):
    """z' in fp32; of no meaning where m_v is false."""
    z = tl.load(p_z + o_v, mask=m_v, other=0.0).to(tl.float32) * scale
    if SOFTCAP:
        z = softcap * (1 - 2 / (1 + tl.exp(2 * z / softcap)))
    return z


@triton.jit
def _rows_kernel(
    p_z, p_labels, p_loss, p_lse, p_grad, s_z, s_grad, V, scale, softcap, smoothing, z_loss, gain,
    SOFTCAP: tl.constexpr, SMOOTHING: tl.constexpr, LOSS: tl.constexpr, SLOPE: tl.constexpr,
    GRAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of logits: LOSS writes loss and lse, SLOPE puts d loss / d (h W^T) in its place."""
    i_t = tl.program_id(0).to(tl.int64)
    label = tl.load(p_labels + i_t)
    trained = label >= 0
    p_z += i_t * s_z
    o_block = tl.arange(0, BLOCK)
    if LOSS:
        # Read before any thread of this program stores a slope: the reductions below are barriers.
        picked = tl.load(p_z + label, mask=trained, other=0.0).to(tl.float32) * scale
        if SOFTCAP:
            picked = softcap * (1 - 2 / (1 + tl.exp(2 * picked / softcap)))
        top, mass, total = float("-inf"), 0.0, 0.0
        for v in range(0, V, BLOCK):
            o_v = v + o_block
            m_v = o_v < V
            z = tl.where(m_v, _logits(p_z, o_v, m_v, scale, softcap, SOFTCAP), float("-inf"))
            higher = tl.maximum(top, tl.max(z, 0))
            mass = mass * tl.exp(top - higher) + tl.sum(tl.exp(z - higher), 0)
            top = higher
            if SMOOTHING:
                total += tl.sum(tl.where(m_v, z, 0.0), 0)
        lse = top + tl.log(mass)
        loss = lse - (1 - smoothing) * picked - smoothing * (total / V) + z_loss * lse * lse
        tl.store(p_loss + i_t, tl.where(trained, loss, 0.0))
        tl.store(p_lse + i_t, lse)
    else:
        lse = tl.load(p_lse + i_t)
    if SLOPE:
        factor = gain * scale
        if GRAD:
            factor *= tl.load(p_grad + i_t * s_grad)
        factor = tl.where(trained, factor, 0.0)
        steep = 1 + 2 * z_loss * lse
        blocks = tl.cdiv(V, BLOCK)
        for i in range(0, blocks):
            # Backwards: the end of the row was read last and is still in the cache.
            o_v = (blocks - 1 - i) * BLOCK + o_block
            m_v = o_v < V
            z = _logits(p_z, o_v, m_v, scale, softcap, SOFTCAP)
            slope = tl.exp(z - lse) * steep - smoothing / V
            slope = tl.where(o_v == label, slope - (1 - smoothing), slope)
            if SOFTCAP:
                slope *= 1 - (z / softcap) * (z / softcap)
            tl.store(p_z + o_v, (slope * factor).to(p_z.dtype.element_ty), mask=m_v)


def _parts(
    hidden: Tensor, weight: Tensor, buffer: Tensor | None, chunk: int | None
) -> Iterator[tuple[slice, Tensor]]:
    """Each chunk of tokens with its logits h W^T in the compute dtype."""
    T, V = len(hidden), len(weight)
    rows, stride = buffer_shape(T, V, hidden.element_size(), chunk)
    if buffer is None:
        buffer = torch.empty(rows * stride, dtype=hidden.dtype, device=hidden.device)
    held = buffer.view(-1)[: rows * stride].view(rows, stride)
    for start in range(0, T, rows or 1):
        part = slice(start, min(start + rows, T))
        logits = held[: part.stop - start, :V]
        torch.mm(hidden[part], weight.t(), out=logits)
        yield part, logits


def _rows(
    logits: Tensor,
    labels: Tensor,
    losses: Tensor | None,
    lse: Tensor,
    *,
    slope: bool,
    grad: Tensor | None,
    gain: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> None:
    """The kernel over the rows of a chunk. `losses` None: lse is given, else both are written."""
    if not runs_here(logits):
        head = Head(softcap, logit_scale, label_smoothing, z_loss)
        head.rows(logits, labels, losses, lse, slope=slope, grad=grad, gain=gain)
        return
    C, V = logits.shape
    config = lookup("linear_cross_entropy", "*", capability(logits))
    _rows_kernel[(C,)](
        logits, labels, lse if losses is None else losses, lse, lse if grad is None else grad,
        logits.stride(0), 0 if grad is None or grad.dim() == 0 else grad.stride(0), V,
        float(logit_scale), float(softcap or 0), float(label_smoothing), float(z_loss), float(gain),
        SOFTCAP=softcap is not None, SMOOTHING=bool(label_smoothing), LOSS=losses is not None,
        SLOPE=slope, GRAD=grad is not None, **config,
    )  # fmt: skip


def _products(
    slopes: Tensor, hidden: Tensor, weight: Tensor, gain: float,
    d_hidden: Tensor | None, d_weight: Tensor | None,
) -> None:  # fmt: skip
    """dW += slopes^T h, dh = slopes W / gain; d_hidden may be hidden itself."""
    if d_weight is not None:
        accumulate_product(d_weight, slopes, hidden)
    if d_hidden is None:
        return
    if gain == 1:
        torch.mm(slopes, weight, out=d_hidden)
    else:
        torch.addmm(d_hidden, slopes, weight, beta=0, alpha=1 / gain, out=d_hidden)


def linear_cross_entropy_forward(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    buffer: Tensor | None = None,
    chunk: int | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Loss and log-sum-exp, fp32 [T]; arguments as in `linear_cross_entropy_forward_backward`."""
    losses = _statistics(hidden)
    lse = torch.empty_like(losses)
    for part, logits in _parts(hidden, weight, buffer, chunk):
        _rows(logits, labels[part], losses[part], lse[part], slope=False, grad=None, **settings)
    return losses, lse


def linear_cross_entropy_backward(
    grad: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    lse: Tensor,
    *,
    d_hidden: Tensor | None = None,
    d_weight: Tensor | None = None,
    buffer: Tensor | None = None,
    chunk: int | None = None,
    need_hidden: bool = True,
    **settings: Any,
) -> Tensor | None:
    """dh [T, H] with the logits computed again; `d_weight` fp32 [V, H] is added to if given."""
    if d_hidden is None and need_hidden:
        d_hidden = torch.empty_like(hidden)
    for part, logits in _parts(hidden, weight, buffer, chunk):
        here = None if grad.dim() == 0 else grad[part]
        _rows(
            logits, labels[part], None, lse[part], slope=True, grad=grad if here is None else here,
            **settings,
        )  # fmt: skip
        out = None if d_hidden is None else d_hidden[part]
        _products(logits, hidden[part], weight, 1.0, out, d_weight)
    return d_hidden


def linear_cross_entropy_forward_backward(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    grad_scale: Tensor | float | None = None,
    d_hidden: Tensor | None = None,
    d_weight: Tensor | None = None,
    buffer: Tensor | None = None,
    chunk: int | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses and their gradient in one pass over the vocabulary, for a known upstream gradient.

    Args:
        hidden: [T, H], trained tokens only; rows with label -100 are allowed and give 0.
        weight: [V, H] in hidden's dtype, any row stride.
        labels: int64 [T].
        grad_scale: g: a number, fp32 [T] or a scalar on the device; None means 1.
        d_hidden: where dh goes; may be `hidden` itself.
        d_weight: fp32 [V, H] that g dW is added to; None for a frozen head.
        buffer: scratch of `buffer_shape` elements in hidden's dtype.
        chunk: tokens at a time; part of the result's bits.
        settings: softcap, logit_scale, label_smoothing, z_loss.

    Returns:
        losses fp32 [T], lse fp32 [T], dh [T, H].
    """
    losses = _statistics(hidden)
    lse = torch.empty_like(losses)
    d_hidden = torch.empty_like(hidden) if d_hidden is None else d_hidden
    grad = grad_scale if isinstance(grad_scale, Tensor) else None
    gain = 1.0 if grad_scale is None or isinstance(grad_scale, Tensor) else float(grad_scale)
    # fp16 without a loss scale inside g: slopes go up before rounding and the product comes down.
    lift = FP16_GAIN if hidden.dtype == torch.float16 and grad is None and gain == 1 else 1.0
    lift = 1.0 if d_weight is not None else lift
    for part, logits in _parts(hidden, weight, buffer, chunk):
        here = grad if grad is None or grad.dim() == 0 else grad[part]
        _rows(
            logits, labels[part], losses[part], lse[part], slope=True, grad=here, gain=gain * lift,
            **settings,
        )  # fmt: skip
        _products(logits, hidden[part], weight, lift, d_hidden[part], d_weight)
    return losses, lse, d_hidden


def _statistics(hidden: Tensor) -> Tensor:
    """Room for one number a token: fp32, fp64 beside fp64."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return torch.empty(len(hidden), dtype=wide, device=hidden.device)


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
    compact: bool = True,
) -> Tensor:
    """Cross-entropy of every token against its label: fp32 [T], 0 where the label is -100.

    Args:
        hidden: [T, H]; its dtype is the compute dtype.
        weight: [V, H], any dtype; gradients come back in it, summed in fp32.
        labels: int64 [T], -100 where no loss is taken.
        softcap: logits become softcap tanh(logits / softcap) (Gemma 2).
        logit_scale: multiplies the logits.
        label_smoothing: share of the target spread evenly over the vocabulary.
        z_loss: coefficient of lse^2 (Chowdhery et al. 2022, "PaLM").
        chunk: tokens whose logits exist at one time; None takes `head_chunk`'s.
        compact: leave rows without a label out, for which the host waits until the device has
            counted them; False computes every row, as a captured graph must.
    """
    settings: dict[str, Any] = {
        "softcap": softcap, "logit_scale": logit_scale,
        "label_smoothing": label_smoothing, "z_loss": z_loss,
    }  # fmt: skip
    if choose("linear_cross_entropy", hidden).name != "kernel":
        return reference(hidden, weight, labels, chunk=chunk, **settings)
    settings["chunk"] = chunk
    trained = torch.nonzero(labels != IGNORED)[:, 0] if compact else labels
    if trained.numel() == labels.numel():
        return _apply(hidden, weight, labels, settings)
    picked, targets = hidden.index_select(0, trained), labels.index_select(0, trained)
    losses = _apply(picked, weight, targets, settings)
    spread = torch.zeros(labels.shape, dtype=losses.dtype, device=losses.device)
    return spread.index_copy(0, trained, losses)


def _apply(hidden: Tensor, weight: Tensor, labels: Tensor, settings: dict[str, Any]) -> Tensor:
    losses: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.contiguous(), weight, labels, settings
    )
    return losses


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, settings: dict[str, Any]
    ) -> Tensor:
        head = weight.to(hidden.dtype)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        ctx.settings, ctx.early = settings, needs_hidden and not needs_weight
        if ctx.early:
            losses, _, slopes = linear_cross_entropy_forward_backward(
                hidden, head, labels, **settings
            )
            ctx.save_for_backward(slopes)
        else:
            losses, lse = linear_cross_entropy_forward(hidden, head, labels, **settings)
            ctx.save_for_backward(hidden, weight, labels, lse)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.early:
            (slopes,) = ctx.saved_tensors
            # Into its dtype at once: a product in fp32 would be twice the hidden states.
            scaled = torch.mul(slopes, grad[:, None], out=torch.empty_like(slopes))
            return scaled, None, None, None
        hidden, weight, labels, lse = ctx.saved_tensors
        d_weight = torch.zeros(weight.shape, dtype=lse.dtype, device=weight.device)
        d_hidden = linear_cross_entropy_backward(
            grad.contiguous(), hidden, weight.to(hidden.dtype), labels, lse, d_weight=d_weight,
            need_hidden=ctx.needs_input_grad[0], **ctx.settings,
        )  # fmt: skip
        return d_hidden, d_weight.to(weight.dtype), None, None
