"""Every file of an image with its sha256, mode and owner, to compare two builds.

docker run --rm -u 0 -v $PWD/container:/c:ro ftlab python /c/files.py > one.txt
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator

# Made by the engine or the kernel for each container.
ELSEWHERE = frozenset({"/proc", "/sys", "/dev", "/run", "/cache", "/tmp", "/c"})
MADE = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/.dockerenv"})


def main(root: str = "/") -> int:
    """Print one line a file, in the order of names."""
    for line in listing(root):
        print(line)
    return 0


def listing(root: str) -> Iterator[str]:
    """`sha256 mode owner:group path` of everything below `root`; a link is its target."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if os.path.join(folder, n) not in ELSEWHERE)
        links = [n for n in names if os.path.islink(os.path.join(folder, n))]
        for name in sorted([*files, *links]):
            path = os.path.join(folder, name)
            if path not in MADE:
                yield _line(path)


def _line(path: str) -> str:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        what = f"-> {os.readlink(path)}"
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            what = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        what = "special"
    return f"{what} {found.st_mode:o} {found.st_uid}:{found.st_gid} {path}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
