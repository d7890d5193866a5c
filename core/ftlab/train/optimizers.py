"""AdamW in 32 and 8 bits, and its state as named tensors that safetensors can hold.

Decoupled weight decay (Loshchilov and Hutter, 2019) acts on matrices only: never on biases, norm
weights or DoRA magnitudes. Every update is element-wise in a fixed order, hence repeatable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import AdamW
from torch.optim.optimizer import Optimizer

from ftlab.errors import EnvironmentUnfit, FtlabError

Parameters = Mapping[str, Parameter]
_TABLES = ("qmap1", "qmap2")  # bitsandbytes: one code table shared by all parameters


def optimizer(
    name: str,
    parameters: Parameters,
    *,
    weight_decay: float = 0.0,
    lr_ratio: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """The optimizer of that name over `parameters`; its learning rate is set at each step.

    Args:
        name: "adamw" keeps two fp32 numbers per weight, "adamw_8bit" two bytes (block-wise
            quantised by bitsandbytes; tensors below 4096 elements stay in 32 bits).
        lr_ratio: LoRA+'s: how many times the learning rate every LoRA B gets.
    Raises:
        EnvironmentUnfit: adamw_8bit where bitsandbytes is missing.
        ValueError: unknown name.
    """
    groups = parameter_groups(parameters, weight_decay, lr_ratio)
    if name == "adamw":
        # On a GPU one fused update takes 2 ms where 448 separate ones take 50 (an 8B model's LoRA);
        # each is element-wise, so each repeats its bits.
        fused = all(parameter.is_cuda for parameter in parameters.values())
        return AdamW(groups, lr=0.0, betas=betas, eps=eps, foreach=False, fused=fused)
    if name == "adamw_8bit":
        return _eight_bit(groups, betas, eps)
    raise ValueError(f"unknown optimizer {name!r}; allowed: adamw, adamw_8bit")


def parameter_groups(
    parameters: Parameters, weight_decay: float, lr_ratio: float = 1.0
) -> list[dict[str, Any]]:
    """Matrices with `weight_decay`, vectors and biases without; LoRA's B apart where it is faster.

    LoRA+ (Hayou et al. 2024): B learns `lr_ratio` times as fast as A and everything else.
    """
    kinds: dict[tuple[bool, bool], list[Parameter]] = {}
    for name, parameter in parameters.items():
        kind = (not _decays(name, parameter), lr_ratio != 1 and ".lora_B." in name)
        kinds.setdefault(kind, []).append(parameter)
    return [
        {
            "params": kinds[plain, fast],
            "weight_decay": 0.0 if plain else weight_decay,
            "lr_ratio": lr_ratio if fast else 1.0,
        }
        for plain, fast in sorted(kinds)
    ]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use `rate`, times its own ratio, for the next update of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_ratio", 1.0)


def state_tensors(optimizer: Optimizer, parameters: Parameters) -> dict[str, Tensor]:
    """All optimizer state as tensors named "parameter|entry", in the order of `parameters`.

    Integers (a step count) become int64 tensors without dimensions. Nothing is copied.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for entry, value in sorted(optimizer.state.get(parameter, {}).items()):
            if entry in _TABLES:
                tensors.setdefault(f"|{entry}", value)
            elif isinstance(value, int):
                tensors[f"{name}|{entry}"] = torch.tensor(value, dtype=torch.int64)
            else:
                tensors[f"{name}|{entry}"] = value
    return tensors


def load_state_tensors(
    optimizer: Optimizer, parameters: Parameters, tensors: Mapping[str, Tensor]
) -> None:
    """Give `optimizer` the state that `state_tensors` gave, bit for bit.

    Raises:
        FtlabError: an entry belongs to no parameter.
    """
    tables = {key[1:]: value for key, value in tensors.items() if key.startswith("|")}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("|")
        if not name:
            continue
        if name not in parameters:
            raise FtlabError(f"the checkpoint's optimizer state has an unknown parameter {name!r}")
        parameter = parameters[name]
        state = optimizer.state[parameter]
        state[entry] = _placed(value, parameter, bool(optimizer.defaults.get("fused")))
        if value.dtype == torch.uint8:  # quantised: state1 is read through qmap1, state2 qmap2
            table = entry.replace("state", "qmap")
            tables[table] = tables[table].to(parameter.device)
            state[table] = tables[table]


def _placed(value: Tensor, parameter: Parameter, fused: bool) -> Tensor | int:
    if value.dtype == torch.int64:  # bitsandbytes counts steps in an int
        return int(value)
    if value.dim() == 0 and not fused:  # torch counts them on the CPU, unless fused
        return value.clone()
    return value.to(parameter.device, copy=True)


def _decays(name: str, parameter: Parameter) -> bool:
    return parameter.dim() > 1 and not name.endswith("bias")


def _eight_bit(groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> Optimizer:
    try:
        import bitsandbytes.optim  # noqa: F401  what the next import needs
    except ImportError as error:
        raise EnvironmentUnfit(
            "optim.name adamw_8bit needs bitsandbytes, which cannot be imported here "
            f"({error}); install it or set optim.name: adamw"
        ) from error
    from ftlab.train.flat_adamw import FlatAdamW8bit

    made: Optimizer = FlatAdamW8bit(groups, lr=0.0, betas=betas, eps=eps)
    return made
