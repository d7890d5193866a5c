"""Versions as PEP 440 orders them, and specifiers such as ">=2.4,<3": as much as wheels use."""

from __future__ import annotations

import re
from functools import lru_cache

_VERSION = re.compile(
    r"v?(?:\d+!)?(\d+(?:\.\d+)*)[-_.]?(?:(a|b|rc|alpha|beta|c|pre)[-_.]?(\d*))?"
    r"(?:[-_.]?(post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?dev[-_.]?(\d*))?(?:\+([a-z0-9._-]+))?\Z",
    re.IGNORECASE,
)
_ORDER = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "rc": 2, "c": 2, "pre": 2}
Key = tuple[tuple[int, ...], tuple[int, int], int, int]


@lru_cache(maxsize=2048)
def key(text: str) -> Key | None:
    """What to compare by; None if `text` is no version. The local part ("+cu121") is left out."""
    match = _VERSION.match(text.strip())
    if not match:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    pre = (_ORDER[match[2].lower()], int(match[3] or 0)) if match[2] else (9, 0)
    post = int(match[5] or match[6] or 0) if match[4] or match[6] else -1
    dev = int(match[7] or 0) if match[7] is not None else 1 << 30
    if match[7] is not None and not match[2] and not match[4]:
        pre = (-1, 0)  # 1.0.dev1 comes before 1.0a1
    return tuple(numbers), pre, post, dev


def local(text: str) -> str:
    """The part after "+", such as "cu121"."""
    return text.partition("+")[2].lower()


def satisfies(version: str, specifier: str) -> bool | None:
    """Whether `version` is in `specifier`; None if either cannot be read."""
    have = key(version)
    if have is None:
        return None
    for part in filter(None, (piece.strip() for piece in specifier.strip("() ").split(","))):
        match = re.match(r"(===|==|!=|~=|>=|<=|>|<)\s*(.+)\Z", part)
        if not match:
            return None
        verdict = _holds(version, have, match[1], match[2].strip())
        if verdict is not True:
            return verdict
    return True


def _holds(version: str, have: Key, operator: str, wanted: str) -> bool | None:
    if wanted.endswith(".*"):
        prefix = release(wanted[:-2])
        padded = (release(version) + (0,) * len(prefix))[: len(prefix)]
        return {"==": padded == prefix, "!=": padded != prefix}.get(operator)
    want = key(wanted)
    if want is None:
        return None
    if operator in ("==", "===") and local(wanted) and local(wanted) != local(version):
        return False
    if operator == "~=":
        parts = release(wanted)[:-1]
        return have >= want and release(version)[: len(parts)] == parts
    return {
        "==": have == want, "===": have == want, "!=": have != want, ">=": have >= want,
        "<=": have <= want, ">": have > want, "<": have < want,
    }[operator]  # fmt: skip


def release(text: str) -> tuple[int, ...]:
    """(2, 4, 1) of "2.4.1+cu121"; empty if there is no number."""
    match = re.match(r"\D*(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def minor(text: str) -> str:
    """ "12.1" of "12.1.105"."""
    return ".".join(str(part) for part in release(text)[:2])
