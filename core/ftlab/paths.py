"""Where ftlab keeps what it downloads and derives: one cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from ftlab.errors import EnvironmentUnfit


def cache_dir() -> Path:
    """The cache root: `FTLAB_CACHE` when it is set, else `~/.cache/ftlab`. Not created."""
    chosen = os.environ.get("FTLAB_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "ftlab"


def make_cache_dir(*parts: str) -> Path:
    """A folder inside the cache, created when missing.

    Raises:
        EnvironmentUnfit: the folder cannot be created or written.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnfit(_advice(folder, error.strerror or str(error))) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EnvironmentUnfit(_advice(folder, "not writable"))
    return folder


def _advice(folder: Path, reason: str) -> str:
    return (
        f"the cache folder {folder} cannot be used: {reason}. "
        "Set FTLAB_CACHE to a folder that you may write."
    )
