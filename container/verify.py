"""Asserts at the end of an image's build: it is what its lock says, and carries no driver.

python verify.py env.lock          LOCK_SHA256 in the environment is compared where it is set
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib import metadata
from pathlib import Path

# torch -> CUDA it was built for, GPU architectures that must be in it
STACKS = {
    "2.4.1": ("12.1", {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90"}),
    "2.10.0": ("12.8", {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"}),
}
DRIVER = re.compile(r"lib(cuda|nvidia-ml|nvidia-ptxjitcompiler)\.so(\.\d+)*$")
OWN = {"ftlab"}


def main(lock: str) -> int:
    """Print what was verified; 1 with every fault when there is any."""
    faults = [*_lock(Path(lock)), *_torch(), *_driver(), *_environment()]
    for fault in faults:
        print(f"verify: {fault}", file=sys.stderr)
    return 1 if faults else 0


def normal(name: str) -> str:
    """A distribution's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Name -> version of every pin of a lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {normal(name): version for name, version in found}


def _lock(path: Path) -> list[str]:
    data = path.read_bytes()
    digest, asked = hashlib.sha256(data).hexdigest(), os.environ.get("LOCK_SHA256", "")
    faults = [] if asked in ("", digest) else [f"the lock is {digest}, not {asked}"]
    locked = pins(data.decode())
    have = {normal(d.metadata["Name"]): d.version for d in metadata.distributions()}
    for name in sorted(locked.keys() | have.keys() - OWN):
        if locked.get(name) != have.get(name):
            faults.append(
                f"{name}: {have.get(name)} is installed, the lock says {locked.get(name)}"
            )
    print(f"verify: {len(locked)} packages as locked, lock sha256 {digest}")
    return faults


def _torch() -> list[str]:
    import torch

    version = torch.__version__.split("+")[0]
    if version not in STACKS:
        return [f"torch {version} is none of {', '.join(STACKS)}"]
    cuda, wanted = STACKS[version]
    have = set(torch._C._cuda_getArchFlags().split())
    print(f"verify: torch {version}, CUDA {torch.version.cuda}, {' '.join(sorted(have))}")
    faults = [] if torch.version.cuda == cuda else [f"torch is built for CUDA {torch.version.cuda}"]
    return faults + [f"torch lacks {name}" for name in sorted(wanted - have)]


def _driver() -> list[str]:
    found = []
    for folder, names, files in os.walk("/"):
        if folder == "/":
            names[:] = [n for n in names if n not in ("proc", "sys", "dev", "run")]
        found += [f"{folder}/{file} belongs to a driver" for file in files if DRIVER.match(file)]
    # Stubs in a folder of that name are for linkers, and are found by nobody else.
    return [fault for fault in found if "/stubs/" not in fault]


def _environment() -> list[str]:
    faults = []
    if os.environ.get("LD_LIBRARY_PATH"):
        faults.append("LD_LIBRARY_PATH is set: it would replace libraries of the lock")
    if os.environ.get("PYTHONSAFEPATH") != "1":
        faults.append("PYTHONSAFEPATH is not 1")
    return faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
