"""Disk space and inodes where models, runs and temporary files go."""

from __future__ import annotations

from typing import Any

from ftlab_doctor.finding import Finding, fail, ok, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

GB = 10**9


def _room(
    host: Host, name: str, what: str, least: float, wanted: float, fix: str, blocks: tuple[str, ...]
) -> Finding:
    place = host.place(name)
    free = place.get("free")
    if free is None:
        return unknown(f"the disk of {what} was not looked at")
    facts: dict[str, Any] = {
        "observed": f"{free / GB:.1f} GB free", "expected": f">= {wanted:.0f} GB", "fix": fix,
        "evidence": [(place["nearest"], f"{free} of {place.get('total')} bytes free")], "blocks": blocks,
    }  # fmt: skip
    if free < least * GB:
        return fail(
            f"The disk of {what} is full: {free / GB:.1f} GB are free in {place['nearest']}",
            **facts,
        )
    if free < wanted * GB:
        return warn(f"Little room for {what}: {free / GB:.1f} GB in {place['nearest']}", **facts)
    return ok(f"{free / GB:.0f} GB")


@check("disk.models", "Is there room for models?")
def models(host: Host) -> Finding:
    """The hub's cache: a 7B model is 15 GB."""
    return _room(host, "hf", "models", 2, 20, "export HF_HOME=/path/on/a/big/disk", ("download",))


@check("disk.runs", "Is there room for runs and checkpoints?")
def runs(host: Host) -> Finding:
    """A full volume cuts a checkpoint in half."""
    return _room(
        host,
        "runs",
        "runs",
        0.5,
        5,
        "export FTLAB_RUNS=/path/on/a/big/disk  # or lower train.keep",
        ("train",),
    )


@check("disk.tmp", "Is there room for temporary files?")
def tmp(host: Host) -> Finding:
    """pip unpacks wheels there: torch needs 4 GB."""
    return _room(
        host,
        "tmp",
        "temporary files",
        0.2,
        4,
        "export TMPDIR=$HOME/tmp && mkdir -p $TMPDIR",
        ("install",),
    )


@check("disk.inodes", "Are there inodes left?")
def inodes(host: Host) -> Finding:
    """A disk with room can still refuse files."""
    seen = False
    for name in ("hf", "runs", "tmp", "home"):
        place = host.place(name)
        total, free = place.get("inodes"), place.get("inodes_free")
        if not total or free is None:
            continue
        seen = True
        if free < 2000:
            return fail(
                f"No inodes are left in {place['nearest']}: `No space left on device` though there is room",
                observed=f"{free} of {total}",
                expected=">= 2000",
                evidence=[("df -i", f"{free} free")],
                fix=f"find {place['nearest']} -xdev -type f | cut -d/ -f2-4 | sort | uniq -c | sort -n | tail",
            )
    return ok("enough") if seen else unknown("the filesystems do not say")
