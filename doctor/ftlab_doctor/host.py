"""Host: reading a snapshot. Everything a check knows comes through here, so checks are pure.

A fact that was looked for and is absent is `False` in the snapshot; one that nobody looked for is
missing. Readers answer None for both, and `looked(path)` tells them apart.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, NamedTuple

from ftlab_doctor.markers import normal


class Command(NamedTuple):
    """What a command said. `rc` is None if it could not be run or did not end."""

    rc: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return f"{self.out}\n{self.err}".strip()


class Mount(NamedTuple):
    """One line of /proc/mounts."""

    device: str
    point: str
    kind: str
    options: tuple[str, ...]


class Host:
    """Read access to the facts of one machine."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def section(self, name: str) -> dict[str, Any]:
        """A part of the snapshot; empty if it was not collected."""
        value = self.facts.get(name)
        return value if isinstance(value, dict) else {}

    def has(self, name: str) -> bool:
        """Whether that part was collected at all."""
        return name in self.facts

    # files ------------------------------------------------------------------------------------
    def text(self, path: str) -> str | None:
        """The content of a file; None if it is absent or was not read."""
        value = self.section("files").get(path)
        return value if isinstance(value, str) else None

    def exists(self, path: str) -> bool | None:
        """Whether a file is there; None if nobody looked."""
        value = self.section("files").get(path)
        return None if value is None else value is not False

    def listing(self, folder: str) -> list[str] | None:
        """Names in a folder (perhaps only those of interest); None if absent or not listed."""
        value = self.section("listings").get(folder)
        return value if isinstance(value, list) else None

    def command(self, name: str) -> Command | None:
        """The answer of a command, by the name the collector gave it."""
        value = self.section("commands").get(name)
        if not isinstance(value, dict):
            return None
        return Command(value.get("rc"), value.get("out", ""), value.get("err", ""))

    def which(self, program: str) -> str | None:
        """Where a program lies; None if there is none or nobody looked."""
        value = self.section("programs").get(program)
        return value if isinstance(value, str) else None

    def env(self, name: str) -> str | None:
        """An environment variable of the allow-list; "<set>" for one that holds a secret."""
        value = self.section("env").get(name)
        return value if isinstance(value, str) else None

    # the machine ------------------------------------------------------------------------------
    @cached_property
    def system(self) -> dict[str, Any]:
        """Kernel, distribution, libc, processor, user."""
        return self.section("system")

    @cached_property
    def kernel(self) -> str:
        """Such as 6.8.0-48-generic."""
        return str(self.system.get("kernel", ""))

    @cached_property
    def wsl(self) -> int:
        """2 or 1 inside WSL, else 0."""
        if "microsoft" not in self.kernel.lower():
            return 0
        return 1 if re.match(r"4\.4\.0-\d+-Microsoft", self.kernel) else 2

    @cached_property
    def container(self) -> str:
        """docker, podman, apptainer, kubernetes, lxc; "" outside."""
        if self.env("APPTAINER_CONTAINER") or self.env("SINGULARITY_CONTAINER"):
            return "apptainer"
        if self.exists("/.singularity.d"):
            return "apptainer"
        if self.env("KUBERNETES_SERVICE_HOST"):
            return "kubernetes"
        if self.exists("/run/.containerenv"):
            return "podman"
        if self.exists("/.dockerenv"):
            return "docker"
        kind = self.env("container") or ""
        return kind if kind not in ("", "wsl") else ""

    @property
    def in_container(self) -> bool:
        """Whether this snapshot was made inside a container."""
        return bool(self.container)

    @cached_property
    def root(self) -> bool:
        """Whether the doctor ran as root."""
        return bool(self.system.get("uid") == 0)

    @cached_property
    def mounts(self) -> list[Mount]:
        """Mounted filesystems, later ones over earlier ones."""
        rows = [line.split() for line in (self.text("/proc/mounts") or "").splitlines()]
        return [
            Mount(r[0], r[1].replace("\\040", " "), r[2], tuple(r[3].split(",")))
            for r in rows if len(r) >= 4
        ]  # fmt: skip

    def mount_of(self, path: str) -> Mount | None:
        """The filesystem a path lies on."""
        best = None
        for mount in self.mounts:
            point = mount.point.rstrip("/")
            inside = path == mount.point or path.startswith(point + "/")
            if inside and (best is None or len(mount.point) >= len(best.point)):
                best = mount
        return best

    def place(self, purpose: str) -> dict[str, Any]:
        """A folder that training writes to: path, writable, owner, free bytes ..."""
        value = self.section("places").get(purpose)
        return value if isinstance(value, dict) else {}

    # python -----------------------------------------------------------------------------------
    @cached_property
    def python(self) -> dict[str, Any]:
        """The interpreter: executable, prefix, version, path ..."""
        return self.section("python")

    @cached_property
    def packages(self) -> list[dict[str, Any]]:
        """Installed distributions in order of sys.path."""
        value = self.facts.get("packages")
        return value if isinstance(value, list) else []

    @cached_property
    def _first(self) -> dict[str, dict[str, Any]]:
        first: dict[str, dict[str, Any]] = {}
        for package in self.packages:
            first.setdefault(normal(package["name"]), package)
        return first

    def package(self, name: str) -> dict[str, Any] | None:
        """The distribution that imports would see."""
        return self._first.get(normal(name))

    def version(self, name: str) -> str | None:
        """Its version."""
        package = self.package(name)
        return str(package["version"]) if package else None

    @cached_property
    def site(self) -> str:
        """The folder that torch, or else this interpreter, keeps its packages in."""
        torch = self.package("torch")
        return str((torch or {}).get("location") or self.python.get("platlib", ""))

    def build(self, name: str) -> dict[str, Any]:
        """What a wheel says it was built for (torch, xformers, bitsandbytes ...)."""
        value = self.section("builds").get(name)
        return value if isinstance(value, dict) else {}

    def probe(self, name: str) -> dict[str, Any] | None:
        """The result of a deep probe."""
        value = self.section("probes").get(name)
        return value if isinstance(value, dict) else None
