"""Clipping by the global norm in Triton: three launches for all gradients, in a fixed order.

    n = sqrt(sum of all g^2),  g = g min(1, max_norm / (n + 1e-6))

A table of addresses and sizes is made on the host once for a list of gradients. A program squares
and sums one block of one gradient; one program adds those sums in their order; each scales a block.
No atomics, no wait for the device. The norm in fp32; NaN or infinity in any gradient shows in it.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.global_norm_clip import global_norm_clip as reference


@triton.jit
def square_sum_kernel(
    p_addresses, p_sizes, p_first, p_typed, p_sums, COUNT, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: the sum of squares of one block of one gradient."""
    i_program = tl.program_id(0)
    i_grad = find(p_first, i_program, COUNT, STEPS)
    p_grad = tl.load(p_addresses + i_grad).to(p_typed.dtype)
    start = (i_program - tl.load(p_first + i_grad)).to(tl.int64) * BLOCK
    o_value = start + tl.arange(0, BLOCK)
    grad = tl.load(p_grad + o_value, mask=o_value < tl.load(p_sizes + i_grad), other=0.0)
    grad = grad.to(tl.float32)
    tl.store(p_sums + i_program, tl.sum(grad * grad, axis=0))


@triton.jit
def find(p_first, i_program, COUNT, STEPS: tl.constexpr):
    """The gradient to which a program belongs: the last whose first program is not above it."""
    low = i_program * 0
    high = low + COUNT
    for _ in range(STEPS):
        middle = (low + high) // 2
        below = tl.load(p_first + tl.minimum(middle, COUNT - 1)) <= i_program
        inside = low + 1 < high
        low = tl.where(inside & below, middle, low)
        high = tl.where(inside & (below == 0), middle, high)
    return low


@triton.jit
def norm_kernel(p_sums, p_norm, p_scale, max_norm, COUNT, CLIP: tl.constexpr, BLOCK: tl.constexpr):
    """One program in all: the norm and the factor."""
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, COUNT, BLOCK):
        o_sum = start + tl.arange(0, BLOCK)
        total += tl.load(p_sums + o_sum, mask=o_sum < COUNT, other=0.0)
    norm = tl.sqrt(tl.sum(total, axis=0))
    tl.store(p_norm, norm)
    if CLIP:
        scale = max_norm / (norm + 1e-6)
        tl.store(p_scale, tl.where(scale > 1.0, 1.0, scale))  # NaN stays NaN


@triton.jit
def scale_kernel(
    p_addresses, p_sizes, p_first, p_typed, p_scale, COUNT, STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: scale one block of one gradient; nothing is touched where the factor is 1."""
    scale = tl.load(p_scale)
    if scale != 1.0:
        i_program = tl.program_id(0)
        i_grad = find(p_first, i_program, COUNT, STEPS)
        p_grad = tl.load(p_addresses + i_grad).to(p_typed.dtype)
        start = (i_program - tl.load(p_first + i_grad)).to(tl.int64) * BLOCK
        o_value = start + tl.arange(0, BLOCK)
        m = o_value < tl.load(p_sizes + i_grad)
        grad = tl.load(p_grad + o_value, mask=m, other=0.0).to(tl.float32) * scale
        tl.store(p_grad + o_value, grad.to(p_typed.dtype.element_ty), mask=m)


class Table:
    """Where gradients of one dtype lie, on the device: addresses, sizes, first programs."""

    def __init__(self, grads: Sequence[Tensor], block: int) -> None:
        device = grads[0].device
        programs = [-(-grad.numel() // block) for grad in grads]
        first = [sum(programs[:index]) for index in range(len(grads))]
        self.count = len(grads)
        self.programs = sum(programs)
        self.steps = max(1, len(grads).bit_length() + 1)
        self.typed = torch.empty(1, dtype=grads[0].dtype, device=device)  # its type is read alone
        self.addresses = torch.tensor([g.data_ptr() for g in grads], device=device)
        self.sizes = torch.tensor([grad.numel() for grad in grads], device=device)
        self.first = torch.tensor(first, dtype=torch.int32, device=device)


_tables: dict[tuple[tuple[int, int, torch.dtype], ...], list[Table]] = {}


def tables_of(grads: Sequence[Tensor], block: int) -> list[Table]:
    """One table a dtype; the last one made is kept, since a run's gradients stay where they are."""
    key = tuple((grad.data_ptr(), grad.numel(), grad.dtype) for grad in grads)
    if key not in _tables:
        _tables.clear()
        kinds = sorted({grad.dtype for grad in grads}, key=str)
        _tables[key] = [Table([g for g in grads if g.dtype is kind], block) for kind in kinds]
    return _tables[key]


def clip_launch(grads: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """The launches; gradients contiguous and on one device. Returns the norm, fp32 scalar."""
    device = grads[0].device
    config = tuning.lookup("global_norm_clip", "*", tuning.capability(device))
    tables = tables_of(grads, config["BLOCK"])
    sums = torch.empty(sum(t.programs for t in tables), dtype=torch.float32, device=device)
    norm, scale = (torch.empty((), dtype=torch.float32, device=device) for _ in range(2))
    at = 0
    for table in tables:
        square_sum_kernel[(table.programs,)](
            table.addresses, table.sizes, table.first, table.typed, sums[at:], table.count,
            STEPS=table.steps, **config,
        )  # fmt: skip
        at += table.programs
    clip = max_norm is not None
    norm_kernel[(1,)](
        sums, norm, scale, float(max_norm or 0.0), at, CLIP=clip, BLOCK=4096, num_warps=8
    )
    if clip:
        for table in tables:
            scale_kernel[(table.programs,)](
                table.addresses, table.sizes, table.first, table.typed, scale, table.count,
                STEPS=table.steps, **config,
            )  # fmt: skip
    return norm


def global_norm_clip(grads: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale `grads` in place by min(1, max_norm / (norm + 1e-6)); returns the norm before that.

    Args:
        grads: gradients of any shapes, fp32, bf16 or fp16, on one device.
        max_norm: None only measures.

    Raises:
        ValueError: no gradients.
    """
    grads = [grad.detach() for grad in grads if grad.numel()]
    if not grads:
        raise ValueError("there are no gradients")
    contiguous = all(grad.is_contiguous() for grad in grads)
    unless = None if contiguous else "a gradient is not contiguous"
    if choose("global_norm_clip", *grads, unless=unless).name == "kernel":
        return clip_launch(grads, max_norm)
    return reference(grads, max_norm)
