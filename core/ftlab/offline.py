"""Whether the hub may be asked: one answer for models, data and containers. Standard library only.

The variables and the words for yes are those of `huggingface_hub` and `datasets`; any of them
switches everything off, so that a run never asks for half of what it needs.
"""

from __future__ import annotations

import os

VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_YES = ("1", "ON", "YES", "TRUE")


def is_offline(asked: bool = False) -> bool:
    """Whether the hub is switched off, by the caller or the environment."""
    return asked or bool(switch())


def switch() -> str:
    """The variable that switches the hub off, "" when none does."""
    return next((name for name in VARIABLES if os.environ.get(name, "").upper() in _YES), "")
