"""The plan: what a config will do with these facts, every "auto" replaced and explained.

`resolve(config, facts)` is pure: no file, no device, no clock; it refuses with every reason.
"""

from __future__ import annotations

from ftlab.planning.types import (
    MEMORY_TERMS,
    PLAN_VERSION,
    Decision,
    Plan,
    from_json,
    to_json,
)

__all__ = ["MEMORY_TERMS", "PLAN_VERSION", "Decision", "Plan", "from_json", "to_json"]
