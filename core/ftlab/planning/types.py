"""Plan and Decision: what will happen, with the reason of every automatic choice.

Plain frozen dataclasses, standard library only. `to_json` and `from_json` are exact inverses, and
`from_json` accepts what an older version wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftlab import facts as facts_module
from ftlab.facts import Facts
from ftlab.schema import RunConfig

PLAN_VERSION = 1
WORLD_SIZE = "world_size"  # the decision of how many processes train; only where several do

# Terms of `Plan.memory`, in the order they are shown. All in bytes on the training device.
MEMORY_TERMS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "context",
)


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice that was made for the person, and why.

    `value` is a JSON value: str, int, float, bool, None, or a list of these.
    """

    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will happen. Made by `plan.resolve`, written to plan.json, never changed."""

    config: RunConfig  # every "auto" replaced
    decisions: dict[str, Decision]  # "model.precision" -> decision; also device, compute_dtype, ...
    memory: dict[str, int]  # MEMORY_TERMS -> bytes at the peak of a step
    steps: int  # optimizer steps of the whole run
    steps_per_epoch: int
    rows: int  # rows (pairs) of the data that are used
    train_tokens: int  # tokens with loss, over the whole run
    seconds: tuple[float, float] | None  # expected range of the training part
    disk_bytes: int  # what the run directory is expected to take at most
    warnings: tuple[str, ...]
    facts: Facts
    version: int
    hash: str  # sha256 over what defines the result, see `planning.identity`

    @property
    def total(self) -> int:
        """Expected peak of device memory, in bytes."""
        return sum(self.memory.values())

    @property
    def world_size(self) -> int:
        """Training processes: one for each GPU, or as many as share the CPU."""
        return int(self.decisions[WORLD_SIZE].value) if WORLD_SIZE in self.decisions else 1

    def decided(self, name: str) -> Any:
        """The value of a decision such as "compute_dtype" or "device"."""
        return self.decisions[name].value


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    value: dict[str, Any] = facts_module.to_json(plan)
    return value


def from_json(value: Mapping[str, Any]) -> Plan:
    """Rebuild a plan from `to_json`. Unknown keys are ignored, missing optional ones default."""
    optional: dict[str, Any] = {
        "seconds": None,
        "disk_bytes": 0,
        "warnings": [],
        "version": PLAN_VERSION,
        "hash": "",
    }
    return facts_module.from_json(Plan, {**optional, **value})


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(value: Any) -> str:
    """Hash of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(facts_module.to_json(value)).encode()).hexdigest()
