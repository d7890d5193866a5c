"""Sizes, counts and durations in words that a person reads at a glance."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes as "512 MiB" or "23.6 GiB"."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            value = count / factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{int(count)} B"


def number(count: float) -> str:
    """A count as "950", "12,400", "135.1 M" or "7.6 B"."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{int(count):,}"


def duration(seconds: float) -> str:
    """Seconds as "40 s", "12 min", "3.5 h" or "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def rows(count: int, preference: bool = False) -> str:
    """A number of rows or pairs, in the right grammatical number."""
    noun = "pair" if preference else "row"
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
