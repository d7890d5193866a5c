"""Block sizes of every kernel, by operator, shape class and compute capability.

`<op>.json` holds `{shape class: {capability: configuration}}`; `*` stands for any. A lookup takes
the exact shape class, else `*`, and in it the nearest capability of the device's family that is not
above its own, else `*`. Families are cards with the same features: 7.x (no bf16, no asynchronous
copies), 8.x, and 9.0 to 11.x (227 KB of shared memory, TMA). 12.x has 99 KB as 8.9 and takes its
entries. An entry never serves another family; within 8.x an entry for 8.0 (163 KB) serves 8.6 and
8.9 (99 KB) where they have none, and the ahead-of-time tests hold every such choice to its card.

Nothing is timed at run time: `bench/tune.py` makes the tables, the repository keeps them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
AS_89 = 89  # the capability whose entries 12.x takes
Config = dict[str, Any]  # constexprs, num_warps, num_stages: keyword arguments of a launch

_overrides: dict[str, Config] = {}


def lookup(op: str, shape_class: str, capability: int) -> Config:
    """The launch configuration of `op`. It is shared: do not change it.

    Args:
        op: name of the table.
        shape_class: one of the table's classes, or any string, which then falls to `*`.
        capability: ten times major plus minor, 0 for the interpreter; see `capability`.

    Raises:
        KeyError: the table is missing, or has neither the class nor `*`.
    """
    if op in _overrides:
        return _overrides[op]
    return _lookup(op, shape_class, capability)


@contextmanager
def override(op: str, config: Config) -> Iterator[None]:
    """Within a block `op` runs with `config` whatever the table says. For measuring candidates."""
    before = _overrides.get(op)
    _overrides[op] = config
    try:
        yield
    finally:
        if before is None:
            del _overrides[op]
        else:
            _overrides[op] = before


def capability(of: Tensor | torch.device) -> int:
    """Compute capability as a number: 90 for 9.0, 0 for the CPU."""
    device = of.device if isinstance(of, Tensor) else of
    return _capability(device.index) if device.type == "cuda" else 0


def pow2_class(prefix: str, size: int, low: int = 1, high: int = 1 << 20) -> str:
    """Shape class by the next power of two: `pow2_class("h", 3000)` is `h_4096`."""
    return f"{prefix}_{min(max(1 << (size - 1).bit_length(), low), high)}"


@functools.cache
def table(op: str) -> dict[str, dict[str, Config]]:
    """The whole table of `op`."""
    path = FOLDER / f"{op}.json"
    if not path.is_file():
        raise KeyError(f"no tuning table {path.name}; there are: {', '.join(tables())}")
    loaded: dict[str, dict[str, Config]] = json.loads(path.read_text("utf-8"))
    return loaded


def tables() -> list[str]:
    """Every operator that has a table."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@functools.cache
def _lookup(op: str, shape_class: str, capability: int) -> Config:
    classes = table(op)
    entries = classes.get(shape_class) or classes.get("*")
    if entries is None:
        raise KeyError(f"tuning/{op}.json has neither {shape_class!r} nor '*'")
    capability = AS_89 if capability >= 120 else capability
    known = [int(key) for key in entries if key != "*"]
    fitting = [key for key in known if key <= capability and _family(key) == _family(capability)]
    if fitting:
        return entries[str(max(fitting))]
    if "*" in entries:
        return entries["*"]
    raise KeyError(f"tuning/{op}.json: {shape_class!r} has nothing for capability {capability}")


def _family(capability: int) -> int:
    return min(capability // 10, 9)


@functools.cache
def _capability(index: int) -> int:
    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor
