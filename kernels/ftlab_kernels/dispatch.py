"""Which implementation an operator call runs: its kernel, its reference, or a library's; and why.

Modes, from the environment variable FTLAB_KERNELS or `set_mode`:
    auto      the kernel where it can run, else the reference
    require   the kernel, or `KernelUnavailable` with the reason
    off       the reference

Every choice is counted; `report()` is what really ran, for a run's manifest.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypedDict, cast

import torch
from torch import Tensor

Mode = Literal["auto", "require", "off"]
Name = Literal["kernel", "reference", "library"]
MODES = ("auto", "require", "off")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
LEAST_CAPABILITY = (7, 0)
LEAST_CAPABILITY_BF16 = (8, 0)
# Below 8.0 triton 3.6 makes products of fused multiply-adds, whose operands spill by up to 110 KB a
# thread (`make aot-test`); 3.0 uses the tensor cores there and spills nothing.
LAST_TRITON_FOR_7 = (3, 0)
WITH_PRODUCTS = frozenset({"attention", "lora_linear", "product"})  # whose kernels hold some


class KernelUnavailable(RuntimeError):
    """Kernels are required and one cannot run; the message says why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a call runs, and why that and nothing else."""

    name: Name
    reason: str


class Ran(TypedDict):
    """One line of the report."""

    op: str
    choice: Name
    reason: str
    count: int


def _initial_mode() -> Mode:
    asked = os.environ.get("FTLAB_KERNELS", "auto")
    if asked not in MODES:
        raise ValueError(f"FTLAB_KERNELS is {asked!r}; allowed: {', '.join(MODES)}")
    return cast(Mode, asked)


_mode: Mode = _initial_mode()
_counts: dict[tuple[str, Name, str], int] = {}


def mode() -> Mode:
    """The mode in force."""
    return _mode


def set_mode(asked: Mode) -> None:
    """Set the mode of this process."""
    global _mode
    if asked not in MODES:
        raise ValueError(f"mode is {asked!r}; allowed: {', '.join(MODES)}")
    _mode = asked


@contextmanager
def using(asked: Mode) -> Iterator[None]:
    """The mode within a block."""
    before = _mode
    set_mode(asked)
    try:
        yield
    finally:
        set_mode(before)


def choose(
    op: str, *tensors: Tensor | None, unless: str | None = None, library: str | None = None
) -> Choice:
    """Decide for one call of `op` on `tensors`, and count it.

    Args:
        op: the operator's name.
        tensors: what the kernel would read; None is ignored.
        unless: the operator's own reason why its kernel cannot take this call.
        library: the operator's reason to prefer a library's kernel where ours could run.

    Raises:
        KernelUnavailable: in mode `require`, where the reference would be taken.
    """
    if _mode == "off":
        return _counted(op, Choice("reference", "kernels are switched off"))
    obstacle = _obstacle(op, tensors) or unless
    if obstacle is None:
        if library is not None:
            return _counted(op, Choice("library", library))
        return _counted(op, Choice("kernel", "supported"))
    if _mode == "require":
        raise KernelUnavailable(f"{op}: {obstacle}; kernels are required (FTLAB_KERNELS=require)")
    return _counted(op, Choice("reference", obstacle))


def multiplies(tensor: Tensor) -> bool:
    """Whether launchers whose kernels hold products run them on this tensor, in any mode.

    On the CPU only in Triton's interpreter. Where a card has no tensor cores for them the launchers
    take library products, and that is counted.
    """
    if not tensor.is_cuda:
        return os.environ.get("TRITON_INTERPRET") == "1"
    obstacle = _card_obstacle("product", tensor.device.index, bf16=False)
    if obstacle is not None:
        record("product", "reference", obstacle)
    return obstacle is None


def record(op: str, name: Name, reason: str = "") -> None:
    """Count a launch that was made without `choose`."""
    _counted(op, Choice(name, reason))


def report() -> list[Ran]:
    """What really ran since the start or the last `reset`, sorted; fit for JSON."""
    return [
        {"op": op, "choice": name, "reason": reason, "count": count}
        for (op, name, reason), count in sorted(_counts.items())
    ]


def reset() -> None:
    """Forget what was counted."""
    _counts.clear()


def _counted(op: str, choice: Choice) -> Choice:
    key = (op, choice.name, choice.reason)
    _counts[key] = _counts.get(key, 0) + 1
    return choice


def _obstacle(op: str, tensors: tuple[Tensor | None, ...]) -> str | None:
    """Why the kernel of `op` cannot take these tensors, or None."""
    given = [tensor for tensor in tensors if tensor is not None]
    device = given[0].device
    for tensor in given:
        if tensor.device != device:
            return f"tensors lie on {device} and on {tensor.device}"
        if tensor.dtype.is_floating_point and tensor.dtype not in FLOATS:
            return f"{tensor.dtype} has no kernel"
    if device.type == "cpu":
        return None if os.environ.get("TRITON_INTERPRET") == "1" else "tensors are on the CPU"
    if device.type != "cuda":
        return f"tensors are on {device.type}"
    return _card_obstacle(op, device.index, bf16=any(t.dtype is torch.bfloat16 for t in given))


@functools.cache
def _card_obstacle(op: str, index: int, *, bf16: bool) -> str | None:
    """Why the kernel of `op` cannot run on a GPU, or None."""
    triton = triton_version()
    if triton is None:
        return "triton is not installed"
    return too_old(op, _capability(index), triton, bf16)


def too_old(
    op: str, capability: tuple[int, int], triton: tuple[int, int], bf16: bool
) -> str | None:
    """Why a card of this capability cannot run the kernel of `op` with that triton, or None."""
    card = "compute capability {}.{}".format(*capability)
    if capability < LEAST_CAPABILITY:
        return f"{card} is below 7.0"
    if capability < LEAST_CAPABILITY_BF16 and bf16:
        return f"{card} has no bfloat16"
    if capability < (8, 0) and triton > LAST_TRITON_FOR_7 and op in WITH_PRODUCTS:
        return "triton {}.{} has no tensor cores for {}; 3.0 has".format(*triton, card)
    return None


@functools.cache
def triton_version() -> tuple[int, int] | None:
    """Version of triton, None where it is not installed."""
    try:
        major, minor, *_ = importlib.metadata.version("triton").split(".")
    except importlib.metadata.PackageNotFoundError:
        return None
    return int(major), int(minor)


@functools.cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)
