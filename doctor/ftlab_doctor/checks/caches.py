"""Cache folders: can they be written, may code run from them, are they local, are they ours?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ftlab_doctor.finding import Finding, Fix, fail, ok, unknown, warn
from ftlab_doctor.host import Host, Mount
from ftlab_doctor.registry import check

VARIABLE = {
    "tmp": "TMPDIR", "hf": "HF_HOME", "triton": "TRITON_CACHE_DIR", "inductor": "TORCHINDUCTOR_CACHE_DIR",
    "datasets": "HF_DATASETS_CACHE", "extensions": "TORCH_EXTENSIONS_DIR",
}  # fmt: skip
COMPILED = ("triton", "inductor", "tmp")
NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "vboxsf", "wekafs",
))  # fmt: skip
# Filesystems in user space that are none of a network; every other one is taken for one.
LOCAL_FUSE = re.compile(
    r"fuse(blk|ctl|\.(snapfuse|squashfuse\w*|fuse-overlayfs|overlayfs|lxcfs|portal|gvfsd-fuse|ntfs\S*|encfs|gocryptfs|bindfs))\Z"
)
STORES = re.compile(r"s3fs|mountpoint-s3|goofys|geesefs|gcsfuse|blobfuse|rclone|ossfs|cosfs")


def remote(mount: Mount) -> str:
    """How a network's filesystem is called; "" for a local one."""
    kind = mount.kind
    if kind in NETWORK or kind.startswith("nfs"):
        return kind
    if kind.startswith("fuse") and not LOCAL_FUSE.match(kind):
        return kind if kind != "fuse" else f"fuse ({mount.device.partition('#')[0]})"
    return ""


def store(mount: Mount) -> str:
    """The same of an object store that is mounted as a folder."""
    match = STORES.search(f"{mount.kind} {mount.device}") if mount.kind.startswith("fuse") else None
    return match[0] if match else ""


def _places(host: Host, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        place = host.place(name)
        if place:
            yield name, place


@check("cache.home", "Is there a home folder?")
def home(host: Host) -> Finding:
    """A container user without HOME: caches would go to "/"."""
    place, value = host.place("home"), host.env("HOME")
    if not place or not host.has("env"):
        return unknown("the folders or the variables were not looked at")
    if value not in (None, "", "/") and not place.get("refused") and not place.get("error"):
        return ok(place["path"])
    if host.root and not place.get("refused"):
        return ok(place["path"])
    return fail("This user has no home folder that can be written: caches have no place", observed=f"HOME={value or ''}", expected="a writable HOME",
                evidence=[("HOME", str(value)), (str(place.get("nearest")), str(place.get("refused") or "not writable"))],
                why="the container runs as a user that its image does not know",
                fix=["export HOME=/tmp/home HF_HOME=/tmp/home/hf TRITON_CACHE_DIR=/tmp/home/triton && mkdir -p $HOME",
                     *([Fix("docker run -e HOME=/cache -v cache:/cache ...", "none", "host")] if host.in_container else [])])  # fmt: skip


@check("cache.writable", "Can every cache be written?", ("cache.home",))
def writable(host: Host) -> Finding:
    """By making a file without a name in each."""
    seen = 0
    for name, place in _places(host, tuple(VARIABLE)):
        seen += 1
        refused = place.get("refused") or place.get("error")
        if not refused:
            continue
        why = {"EROFS": "the filesystem is read-only", "ENOSPC": "the disk is full", "EDQUOT": "the quota is used up", "ENOTDIR": "it is no folder",
               "EACCES": f"it belongs to user {place.get('owner')}"}.get(refused, refused)  # fmt: skip
        ours = (
            f"export {VARIABLE[name]}=$HOME/.cache/{name}"
            if name not in ("hf", "datasets")
            else f"export {VARIABLE[name]}=/path/with/space"
        )
        if (
            place["nearest"].startswith(str(host.place("home").get("path", "~")) + "/")
            and refused == "EACCES"
        ):
            ours = f"sudo chown -R $USER {place['nearest']}"
        return fail(f"The {name} cache cannot be written: {place['path']}", observed=refused, expected="writable", why=why,
                    evidence=[(place["nearest"], f"{refused}, mode {place.get('mode')}, owner {place.get('owner')}")],
                    fix=Fix(ours, "root" if ours.startswith("sudo") else "none"), blocks=("download",) if name in ("hf", "datasets") else ("triton", "compile"))  # fmt: skip
    return ok(f"{seen} folders") if seen else unknown("the folders were not looked at")


@check("cache.user", "Has this user a name?")
def user(host: Host) -> Finding:
    """torch.compile names its cache after the user, and fails for a number without a name."""
    if host.system.get("named", True):
        return ok("yes") if "named" in host.system else unknown("it was not looked at")
    uid = host.system.get("uid")
    return fail(f"User {uid} has no name here: torch.compile and others stop with `getpwuid(): uid not found`", observed=f"uid {uid}, no line in /etc/passwd, USER not set",
                expected="a name", evidence=[("/etc/passwd", f"no user {uid}")], why="docker run --user with a number that the image does not know",
                blocks=("train",), fix=[f"export USER=user{uid}", Fix(f"docker run --user {uid} -e USER=user{uid} ...", "none", "host")])  # fmt: skip


@check("cache.exec", "May code run from the caches of compiled kernels?", ("cache.writable",))
def executable(host: Host) -> Finding:
    """Triton and torch.compile load what they build: not possible on noexec."""
    if not host.mounts:
        return unknown("the mounts are not known")
    for name, place in _places(host, COMPILED):
        mount = host.mount_of(place.get("nearest", ""))
        if mount and "noexec" in mount.options:
            return fail(f"{place['path']} lies on a filesystem mounted noexec: compiled kernels cannot be loaded", observed=f"{mount.point} noexec",
                        expected="exec", evidence=[("/proc/mounts", f"{mount.point} {mount.kind} {','.join(mount.options[:6])}")], blocks=("triton", "compile"),
                        fix=f"export {VARIABLE[name]}=$HOME/.cache/{name} && mkdir -p $HOME/.cache/{name}"
                        if name != "tmp" else "export TMPDIR=$HOME/tmp && mkdir -p $TMPDIR")  # fmt: skip
    return ok("none is mounted noexec")


@check("cache.local", "Are the caches of compiled kernels on a local disk?", ("cache.writable",))
def local(host: Host) -> Finding:
    """On NFS several ranks meet stale handles."""
    if not host.mounts:
        return unknown("the mounts are not known")
    for name, place in _places(host, ("triton", "inductor")):
        mount = host.mount_of(place.get("nearest", ""))
        kind = remote(mount) if mount else ""
        if mount and kind:
            user = "$USER"
            return warn(f"The {name} cache lies on {kind}: compiling is slow, and several processes disturb each other", observed=f"{mount.point} ({kind})",
                        expected="a local disk", evidence=[("/proc/mounts", f"{mount.point} {mount.kind}")], blocks=("speed",),
                        fix=f"export {VARIABLE[name]}=/tmp/{name}-{user}")  # fmt: skip
    for name in ("runs", "cwd", "hf"):
        mount = host.mount_of(host.place(name).get("nearest", ""))
        if host.wsl and mount and mount.kind in ("9p", "drvfs"):
            return warn(f"{host.place(name)['path']} lies on a disk of Windows: reading weights and writing checkpoints is many times slower from WSL",
                        observed=f"{mount.point} ({mount.kind})", expected="a folder below the home folder of Linux", blocks=("speed",),
                        evidence=[("/proc/mounts", f"{mount.point} {mount.kind}")], fix="mkdir -p ~/ftlab && cd ~/ftlab  # work there")  # fmt: skip
    return ok("all on local disks")


@check("cache.store", "Do runs and models lie on a real filesystem?", ("cache.writable",))
def stored(host: Host) -> Finding:
    """An object store has no rename and no lock: checkpoints and downloads rely on both."""
    if not host.mounts:
        return unknown("the mounts are not known")
    for name, place in _places(host, ("runs", "hf", "datasets")):
        mount = host.mount_of(place.get("nearest", ""))
        kind = store(mount) if mount else ""
        if mount and kind:
            variable = {"runs": "FTLAB_RUNS", "hf": "HF_HOME"}.get(name, "HF_DATASETS_CACHE")
            return warn(f"{place['path']} lies in an object store ({kind}): files cannot be renamed or locked there", observed=f"{mount.point} ({mount.kind})",
                        expected="a disk", evidence=[("/proc/mounts", f"{mount.point} {mount.kind}")], blocks=("train",) if name == "runs" else ("download",),
                        why="a checkpoint is written beside its place and renamed into it", fix=f"export {variable}=/path/on/a/disk  # and copy what is finished")  # fmt: skip
    return ok("none is an object store")


@check("cache.owner", "Do the caches belong to this user?", ("cache.home",))
def owner(host: Host) -> Finding:
    """A cache shared with other users ends in a permission error on their lock files."""
    uid = host.system.get("uid")
    for name, place in _places(host, ("triton", "inductor", "hf")):
        theirs = place.get("owner")
        if place.get("exists") and uid not in (None, 0) and theirs not in (None, uid):
            shared = int(str(place.get("mode", "0o0")), 8) & 0o002
            return warn(f"The {name} cache belongs to another user: {place['path']}", observed=f"owner {theirs}", expected=f"owner {uid}",
                        evidence=[(place["path"], f"owner {theirs}, mode {place.get('mode')}")], why="their lock files cannot be opened" if shared else "",
                        fix=f"export {VARIABLE[name]}=$HOME/.cache/{name}-own")  # fmt: skip
    return ok(f"user {uid}")
