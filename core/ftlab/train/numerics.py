"""What makes a step's bits repeatable and safe: determinism switches, gradient norm, loss scale."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor


def prepare_environment() -> None:
    """Set what cuBLAS reads once, when it is first used: a workspace that makes it repeatable."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def make_deterministic(threads: int) -> None:
    """Same inputs, same bits: fixed CPU threads, deterministic kernels only, no TF32.

    Args:
        threads: CPU threads; part of the result's bits, because sums are split among them.
    """
    prepare_environment()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling every torch.empty finds bugs, costs a pass over memory, and changes no output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, as a 0-d fp64 tensor on their device.

    The norm of each gradient (fp64 on the CPU, fp32 and few launches on a GPU) is combined with the
    others in fp64 and in the order given, so that the bits depend on the gradients alone. Nothing
    waits for the device.
    """
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    if gradients[0].is_cuda:
        norms = list(torch._foreach_norm(gradients))
    else:
        norms = [torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in gradients]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms).double())
    return total


def clip_factor(norm: float, max_norm: float) -> float:
    """What gradients of length `norm` are multiplied by; 1.0 when they are short enough.

    `max_norm` 0 turns clipping off. The 1e-6 is that of `torch.nn.utils.clip_grad_norm_`.
    """
    return min(1.0, max_norm / (norm + 1e-6)) if max_norm > 0 else 1.0


def scale_gradients(gradients: list[Tensor], factor: float) -> None:
    """Multiply in place, in few launches; 1.0 leaves the bits alone and costs nothing."""
    if factor != 1.0 and gradients:
        torch._foreach_mul_(gradients, factor)


class LossScaler:
    """Dynamic loss scaling: small fp16 gradients are lifted out of the underflow range.

    The scale is a power of two, so scaling and unscaling are exact. It halves when gradients
    overflow, and doubles after `interval` good steps in a row.
    """

    def __init__(self, scale: float = 2.0**16, *, interval: int = 2000) -> None:
        if scale <= 0 or math.frexp(scale)[0] != 0.5:
            raise ValueError(f"loss scale must be a power of two, not {scale}")
        self.scale = scale
        self.interval = interval
        self.good_steps = 0

    @property
    def exhausted(self) -> bool:
        """Whether even a scale of one overflowed: then the model diverged, not the scale."""
        return self.scale < 1.0

    def update(self, *, overflow: bool) -> None:
        """Learn from one step."""
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow:
            self.scale *= 0.5
        elif self.good_steps == self.interval:
            self.scale, self.good_steps = min(self.scale * 2.0, 2.0**24), 0

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load(self, state: dict[str, float]) -> None:
        """The inverse of `state`."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])
