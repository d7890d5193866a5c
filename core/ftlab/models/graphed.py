"""CUDA graphs of the decoder: a pass is launched once and then repeated as a whole.

A training step of a small model is 1,200 to 3,000 launches, which take the host longer than the
GPU. For each shape of work (`Tokens.shape`) forward and backward are captured the first time it
occurs, and replayed over new tokens, sequence boundaries and dropout keys from then on. The kernels
are those of the eager pass in the same order: every bit is the same.

All graphs share one memory pool; what a pass leaves behind for longer lives outside of it.
Gradients are added to the parameters' `grad`, which must exist and stay where they are.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftlab.models.rng import DeviceKeys, StepRng
from ftlab.models.tokens import Tokens, views
from ftlab_kernels.reference.attention import Layout

_CUDA: Any = torch.cuda  # some releases of torch have no types for it
MOST = 64  # graphs that are kept; the one that was used longest ago goes first


class Settings(NamedTuple):
    """What else a pass depends on."""

    logprobs: bool
    checkpointing: bool
    label_smoothing: float
    adapter: bool


# tokens, their layout, settings, dropout -> fp32 [T]
Compute = Callable[[Tokens, Layout, Settings, "StepRng | DeviceKeys | None"], Tensor]


@dataclass(slots=True)
class _Captured:
    """One shape of work."""

    tokens: Tokens
    plan: Layout
    keys: Tensor | None
    forward: Any  # torch.cuda.CUDAGraph
    result: Tensor  # fp32 [T]
    backward: Any = None
    slope: Tensor | None = None  # fp32 [T], the gradient of the result

    def load(self, tokens: Tokens, plan: Layout, keys: Tensor | None) -> None:
        """Put another micro-batch of the shape in place."""
        assert self.tokens.packed is not None
        assert tokens.packed is not None
        self.tokens.packed.copy_(tokens.packed, non_blocking=True)
        if plan.capacity is not None:
            self.plan.load(plan)
        if self.keys is not None:
            assert keys is not None
            self.keys.copy_(keys, non_blocking=True)


class Graphs:
    """The captured passes of one decoder.

    Args:
        compute: the eager pass.
        sites: call sites of dropout; 0 where nothing is dropped.
        lengths: rising; attention is another kernel where sequences are longer than one of these.
    """

    def __init__(
        self, compute: Compute, device: torch.device, sites: int, lengths: Sequence[int]
    ) -> None:
        self.compute, self.device, self.sites = compute, device, sites
        self.lengths = lengths
        # Eager passes leave 32 MiB for each thread and stream behind.
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        self.pool = _CUDA.graph_pool_handle()
        self.stream = _CUDA.Stream(device)
        self.made: OrderedDict[Any, _Captured] = OrderedDict()
        self._anchor = torch.zeros((), device=device, requires_grad=True)

    def __call__(self, tokens: Tokens, settings: Settings, rng: StepRng | None) -> Tensor:
        """fp32 [T], with a backward pass where gradients are on."""
        grad = torch.is_grad_enabled()
        keys = rng.keys(self.sites, self.device) if rng is not None and self.sites else None
        plan = tokens.plan()
        kernel = bisect.bisect_left(self.lengths, plan.longest)
        key = (tokens.shape, kernel, settings, grad, keys is None)
        found = self.made.get(key)
        if found is None:
            found = self._capture(tokens, plan, settings, keys, grad=grad)
            self.made[key] = found
            if len(self.made) > MOST:
                self.made.popitem(last=False)
        self.made.move_to_end(key)
        found.load(tokens, plan, keys)
        if not grad:
            found.forward.replay()
            return found.result.clone()
        result: Tensor = _Replayed.apply(found, self._anchor)  # type: ignore[no-untyped-call]
        return result

    def _capture(
        self, tokens: Tokens, plan: Layout, settings: Settings, keys: Tensor | None, *, grad: bool
    ) -> _Captured:
        """Launch a pass into a graph; nothing is computed yet."""
        assert tokens.packed is not None
        own = views(
            tokens.packed.clone(), len(tokens.input_ids), tokens.cu_seqlens, tokens.capacity
        )
        # A layout of its own, whose tables stay where the graph reads them.
        own_plan = replace(plan, made={})
        own_keys = None if keys is None else keys.clone()
        rng = None if own_keys is None else DeviceKeys(own_keys)
        forward = _CUDA.CUDAGraph()
        with self._capturing(forward):
            result = self.compute(own, own_plan, settings, rng)
        made = _Captured(own, own_plan, own_keys, forward, result.detach())
        if grad:
            made.slope = torch.zeros_like(made.result)
            made.backward = _CUDA.CUDAGraph()
            # In this thread: another one would have a cuBLAS workspace of its own.
            with torch.autograd.set_multithreading_enabled(False), self._capturing(made.backward):
                torch.autograd.backward(result, made.slope)
        return made

    def _capturing(self, graph: Any) -> Any:
        # Relaxed: kernels that occur for the first time are compiled and loaded meanwhile.
        return torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="relaxed"
        )


class _Replayed(torch.autograd.Function):
    """A replay as a node of autograd; the graph itself adds to the parameters' gradients."""

    @staticmethod
    def forward(ctx: Any, captured: _Captured, anchor: Tensor) -> Tensor:
        ctx.captured = captured
        captured.forward.replay()
        return captured.result.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        captured = ctx.captured
        captured.slope.copy_(grad)
        captured.backward.replay()
        return None, None
