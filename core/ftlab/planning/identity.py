"""The hash of a plan: what defines the result, and nothing that only changes where or how often.

Model and data count by their contents, so a moved folder gives the same hash.
"""

from __future__ import annotations

from typing import Any

from ftlab.facts import Facts
from ftlab.planning.types import Decision, sha256
from ftlab.schema import RunConfig

# Settings that leave every bit of the trained weights as it is.
HARMLESS = frozenset(
    {
        "train.log_every", "train.eval_every", "train.save_every", "train.keep", "train.samples",
        "memory.budget",
    }
)  # fmt: skip
# Settings that are represented by the hash of what they lead to.
BY_CONTENT = frozenset(
    {
        "model.name", "model.revision", "model.trust_remote_code", "data.source", "data.subset",
        "data.split", "data.format", "data.columns", "data.chat_template", "data.eval_source",
        "data.eval_fraction", "data.train_on",
    }
)  # fmt: skip
NUMERIC_DECISIONS = ("compute_dtype", "device", "attention", "engine", "token_budget",
                     "loss_scaling", "memory_tile", "world_size")  # fmt: skip


def plan_hash(config: RunConfig, facts: Facts, decisions: dict[str, Decision]) -> str:
    """sha256 of the settings, model and data that define the result."""
    return sha256(
        {
            "config": defining_settings(config),
            "model": _model(facts),
            "data": facts.data.sha256,
            "decisions": {
                name: decisions[name].value for name in NUMERIC_DECISIONS if name in decisions
            },
        }
    )


def defining_settings(config: RunConfig) -> dict[str, Any]:
    """Dotted path -> value of every setting that is part of the hash."""
    return {
        f"{section}.{name}": value
        for section, values in config.to_dict().items()
        for name, value in values.items()
        if section != "launch" and f"{section}.{name}" not in HARMLESS | BY_CONTENT
    }


def _model(facts: Facts) -> dict[str, Any]:
    model = facts.model
    if "weights" in model.hashes:
        return dict(model.hashes)
    return {"name": model.name, "revision": model.revision, **model.hashes}
