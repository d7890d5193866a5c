"""The element-wise launchers that the engine calls on a device, chosen once."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ftlab.models.fused import plain
from ftlab_kernels.dispatch import choose

Launcher = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Ops:
    """One launcher an operator; signatures are those of `plain`."""

    name: str  # "kernel" or "reference"
    rms_norm_forward: Launcher
    rms_norm_backward: Launcher
    rope_: Launcher
    rope_norm_forward: Launcher
    rope_norm_backward: Launcher
    activation_forward: Launcher
    activation_backward: Launcher


def ops_for(device: torch.device, dtype: torch.dtype, activation: str) -> Ops:
    """The launchers for tensors of `dtype` on `device`; `activation` as in DecoderSpec."""
    probe = torch.empty(0, device=device, dtype=dtype)
    if not probe.is_cuda or choose("layer", probe).name == "reference":
        return _plain(activation)
    rms, rotary = _module("rms_norm"), _module("rope")
    forward, backward = _activation(
        _module("swiglu" if activation == "silu" else "geglu"), activation
    )
    return Ops(
        "kernel",
        rms.rms_norm_forward,
        rms.rms_norm_backward,
        rotary.rope_,
        rotary.rope_norm_forward,
        rotary.rope_norm_backward,
        forward,
        backward,
    )


def _module(name: str) -> Any:
    """The kernels of one operator; imported late, because they need triton."""
    return importlib.import_module(f"ftlab_kernels.{name}")


def _plain(activation: str) -> Ops:
    forward, backward = _activation(plain, activation)
    return Ops(
        "reference",
        plain.rms_norm_forward,
        plain.rms_norm_backward,
        plain.rope_,
        plain.rope_norm_forward,
        plain.rope_norm_backward,
        forward,
        backward,
    )


def _activation(module: Any, activation: str) -> tuple[Launcher, Launcher]:
    if activation == "silu":
        return module.swiglu_forward, module.swiglu_backward
    form = "tanh" if activation == "gelu_tanh" else "none"
    return (
        functools.partial(module.geglu_forward, approximate=form),
        functools.partial(module.geglu_backward, approximate=form),
    )
