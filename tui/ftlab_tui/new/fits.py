"""Whether a model fits this machine: memory by precision from its config.json, with the plan's own
formulas, before any data is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftlab import estimate
from ftlab.errors import FtlabError
from ftlab.facts import Machine
from ftlab.models.families import spec_from_config
from ftlab.schema import AdapterSection

TOKENS = 1024  # one usual sequence at a time, activations recomputed: the least that is useful
WAYS = (("QLoRA", "nf4", "lora"), ("LoRA", "16", "lora"), ("full", "16", "none"))


@dataclass(frozen=True, slots=True)
class Marks:
    """What a model needs.

    Attributes:
        parameters: of the text decoder.
        need: "QLoRA", "LoRA", "full" -> bytes at the peak of a step.
        refused: why the model cannot be trained at all, "" when it can.
    """

    parameters: int
    need: dict[str, int]
    refused: str = ""

    def mark(self, way: str, room: int | None) -> str:
        """`yes`, `tight`, `no`, or `-` where it cannot be told."""
        if self.refused or room is None or way not in self.need:
            return "-"
        if self.need[way] > room:
            return "no"
        return "yes" if self.need[way] < 0.85 * room else "tight"


def marks(config: Mapping[str, Any], machine: Machine | None) -> Marks:
    """The needs of a model with this config.json on this machine."""
    try:
        spec = spec_from_config(dict(config))
    except (FtlabError, KeyError, TypeError, ValueError) as error:
        return Marks(0, {}, str(error).partition("\n")[0])
    gpu = machine.gpus[0] if machine is not None and machine.gpus else None
    need = {}
    for way, precision, kind in WAYS:
        if precision == "nf4" and gpu is None:
            continue
        compute = "fp32" if gpu is None else "bf16" if gpu.capability >= (8, 0) else "fp16"
        work = estimate.Work(
            spec=spec,
            adapter=AdapterSection(kind="lora" if kind == "lora" else "none"),
            precision="nf4" if precision == "nf4" else compute,
            compute_dtype=compute,
            optimizer="adamw",
            tokens=TOKENS,
            longest=TOKENS,
            checkpointing=True,
            cuda=gpu is not None,
        )
        need[way] = sum(estimate.memory(work).values())
    return Marks(spec.parameters(), need)


def room(machine: Machine | None) -> int | None:
    """Bytes that training may take: of the first GPU, else of main memory."""
    if machine is None:
        return None
    if machine.gpus:
        return int(0.95 * machine.gpus[0].free_bytes)
    return int(0.9 * machine.memory_free_bytes)
