"""Small results kept in the cache folder under a hash of everything that decides them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.paths import cache_dir, make_cache_dir

FORMAT = 1  # raise it when the meaning of remembered values changes


def key(*parts: Any) -> str:
    """A hash of JSON values; any change of any part gives another key."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def load(kind: str, name: str) -> Any:
    """The value saved under that key, or None when there is none that can be read."""
    try:
        return json.loads(_path(cache_dir() / "facts", kind, name).read_text("utf-8"))["value"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(kind: str, name: str, value: Any) -> None:
    """Save a JSON value; a cache that cannot be written is no reason to fail."""
    with contextlib.suppress(FtlabError, OSError):
        path = _path(make_cache_dir("facts"), kind, name)
        atomic.write_json(path, {"value": value}, durable=False)


def _path(folder: Path, kind: str, name: str) -> Path:
    return folder / f"{kind}-{name[:40]}.json"
