"""Explicit causal attention with window and soft-cap, queries in blocks, deterministic anywhere.

    s = scale q k^T,  s' = c tanh(s / c),  o = softmax(s' where 0 <= i - j < window) v
    P = exp(s' - lse), dP = dO v^T, dS' = P (dP - rowsum(dO o)), dS = dS' (1 - (s' / c)^2)
    dq = scale dS k,  dk = scale dS^T q,  dv = P^T dO

Computed in fp32 (fp64 for fp64) and rounded once. o and lse are kept; the scores of a block exist
only while it is computed, in both passes. Dao et al. 2022, "FlashAttention".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 256  # queries whose scores exist at one time


@dataclass(frozen=True, slots=True)
class _Rule:
    """What turns products into scores."""

    scale: float
    window: int | None
    softcap: float | None

    def blocks(self, length: int) -> Iterator[tuple[slice, slice]]:
        """Rows of queries and the columns of keys that any of them may see."""
        for start in range(0, length, BLOCK):
            stop = min(start + BLOCK, length)
            first = 0 if self.window is None else max(0, start - self.window + 1)
            yield slice(start, stop), slice(first, stop)

    def scores(self, q: Tensor, k: Tensor, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Masked scores [n, Hkv, G, R, C] and their soft-capped values before the mask."""
        block = q[..., rows, :]
        products = block.flatten(2, 3) @ k[..., cols, :].transpose(-1, -2) * self.scale
        if self.softcap is not None:
            products = self.softcap * torch.tanh(products / self.softcap)
        capped = products.view(*block.shape[:-1], -1)
        distance = _positions(rows, q)[:, None] - _positions(cols, q)[None, :]
        hidden = distance < 0
        if self.window is not None:
            hidden |= distance >= self.window
        return capped.masked_fill(hidden, float("-inf")), capped


def block_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Causal attention of a batch of equally long sequences.

    Args:
        q: [n, Hq, L, D]; k, v: [n, Hkv, L, D], Hq a multiple of Hkv.
        scale, window, softcap: as in `attention`.

    Returns:
        [n, Hq, L, D] in q's dtype.
    """
    rule = _Rule(scale, window, softcap)
    result: Tensor = _BlockAttention.apply(q, k, v, rule)  # type: ignore[no-untyped-call]
    return result


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rule: _Rule) -> Tensor:
        queries, keys, values = _widened(q, k, v)
        out, lse = torch.empty_like(queries), torch.empty_like(queries[..., 0])
        for rows, cols in rule.blocks(q.shape[2]):
            scores, _ = rule.scores(queries, keys, rows, cols)
            lse[..., rows] = torch.logsumexp(scores, dim=-1)
            weights = (scores - lse[..., rows, None]).exp_()
            seen = weights.flatten(2, 3) @ values[..., cols, :]
            out[..., rows, :] = seen.view(*weights.shape[:-1], -1)
        result = out.reshape(q.shape).to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.rule = rule
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        queries, keys, values = _widened(q, k, v)
        d_out, outs = (x.to(queries.dtype).view(queries.shape) for x in (grad.contiguous(), out))
        delta = (d_out * outs).sum(-1, keepdim=True)
        dq, dk, dv = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for rows, cols in ctx.rule.blocks(q.shape[2]):
            scores, capped = ctx.rule.scores(queries, keys, rows, cols)
            weights = (scores - lse[..., rows, None]).exp_()
            d_block = d_out[..., rows, :].flatten(2, 3)
            d_weights = (d_block @ values[..., cols, :].transpose(-1, -2)).view(weights.shape)
            d_scores = weights * (d_weights - delta[..., rows, :]) * ctx.rule.scale
            if ctx.rule.softcap is not None:
                d_scores *= 1 - (capped / ctx.rule.softcap) ** 2
            flat = d_scores.flatten(2, 3)
            dq[..., rows, :] = (flat @ keys[..., cols, :]).view(*d_scores.shape[:-1], -1)
            dk[..., cols, :] += flat.transpose(-1, -2) @ queries[..., rows, :].flatten(2, 3)
            dv[..., cols, :] += weights.flatten(2, 3).transpose(-1, -2) @ d_block
        return dq.reshape(q.shape).to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None


def _widened(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """fp32 at least; queries as [n, Hkv, G, L, D], so that a group shares its key head."""
    wide = torch.promote_types(q.dtype, torch.float32)
    n, heads, length, dim = q.shape
    grouped = q.reshape(n, k.shape[1], heads // k.shape[1], length, dim)
    return grouped.to(wide).contiguous(), k.to(wide).contiguous(), v.to(wide).contiguous()


def _positions(part: slice, like: Tensor) -> Tensor:
    return torch.arange(part.start, part.stop, device=like.device)
