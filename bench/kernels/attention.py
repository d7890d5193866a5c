"""Causal attention of packed segments: ours, the pair that dispatch chooses, flash and cuDNN."""

from __future__ import annotations

import torch
from timing import Bench, Call
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ftlab_kernels.attention import attention_backward, attention_forward, layout, operators

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
SCALE = HEAD_DIM**-0.5
EQUAL = {"16 x 1024": [1024] * 16, "2 x 2048": [2048] * 2, "1 x 8192": [8192]}
PAIRS = [1024, 512, 512] * 8  # prompt, chosen, rejected
SHARED = [x for i in range(8) for x in (-1, 3 * i, 3 * i)]
OTHER: dict[str, tuple[list[int], list[int] | None]] = {
    "13 lengths, 16,384 tokens": (
        [1000, 63, 500, 1, 2048, 300, 184, 4096, 3000, 1200, 2500, 700, 792],
        None,
    ),
    "8 pairs 1024 + 2 x 512, prompt shared": (PAIRS, SHARED),
    "8 pairs 1024 + 2 x 512, apart": ([1536] * 16, None),
}
PEERS = {"torch flash": SDPBackend.FLASH_ATTENTION, "torch cudnn": SDPBackend.CUDNN_ATTENTION}


def rows(bench: Bench) -> None:
    """Measure."""
    for case, lengths in EQUAL.items():
        _compare(bench, case, lengths, None, peers=True)
    for case, (lengths, prefix) in OTHER.items():
        _compare(bench, case, lengths, prefix, peers=False)


def _compare(
    bench: Bench, case: str, lengths: list[int], prefix: list[int] | None, *, peers: bool
) -> None:
    bounds = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    plan = layout(bounds, "cuda", prefix=prefix)
    chosen = operators(plan, HEADS, KV_HEADS, HEAD_DIM, torch.bfloat16)
    flops = plan.flops(HEADS, HEAD_DIM)

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return tuple(
            torch.randn(plan.tokens, n, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
            for n in (HEADS, KV_HEADS, KV_HEADS, HEADS)
        )

    def ours(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> object:
        return attention_forward(q, k, v, plan, scale=SCALE)

    def picked(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> object:
        return chosen.forward(q, k, v, plan, scale=SCALE)

    def backward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> object:
        if q.data_ptr() not in kept:
            kept[q.data_ptr()] = attention_forward(q, k, v, plan, scale=SCALE)
        return attention_backward(grad, q, k, v, *kept[q.data_ptr()], plan, scale=SCALE)

    kept: dict[int, tuple[Tensor, Tensor]] = {}
    forwards = {"ours": ours, f"dispatch: {chosen.name}": picked}
    backwards = {"ours": backward}
    if peers:
        count = len(lengths)
        forwards |= {name: _sdpa(backend, count) for name, backend in PEERS.items()}
        backwards |= {name: _sdpa_backward(backend, count) for name, backend in PEERS.items()}
    bench.compare("attention forward", case, make, forwards, flops=flops)
    bench.compare("attention backward", case, make, backwards, flops=2.5 * flops)


def _batched(x: Tensor, count: int) -> Tensor:
    """[T, H, D] as [count, H, T / count, D]."""
    return x.unflatten(0, (count, -1)).transpose(1, 2)


def _run(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _sdpa(backend: SDPBackend, count: int) -> Call:
    def forward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> Tensor:
        with torch.no_grad():
            return _run(backend, *(_batched(x, count) for x in (q, k, v)))

    return forward


def _sdpa_backward(backend: SDPBackend, count: int) -> Call:
    kept: dict[int, tuple[Tensor, list[Tensor]]] = {}

    def backward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> object:
        if q.data_ptr() not in kept:
            leaves = [_batched(x, count).detach().requires_grad_() for x in (q, k, v)]
            kept[q.data_ptr()] = (_run(backend, *leaves), leaves)
        out, leaves = kept[q.data_ptr()]
        return torch.autograd.grad(out, leaves, _batched(grad, count), retain_graph=True)

    return backward
