"""Reading a snapshot: absent is told from not looked for, and the first of two packages counts."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab_doctor.host import Command, Host

MOUNTS = "/dev/sda / ext4 rw,relatime 0 0\ntmpfs /tmp tmpfs rw,noexec 0 0\n/dev/sdb /mnt/my\\040disk xfs rw 0 0\nbroken\n"


def test_absent_is_told_from_not_looked_for() -> None:
    host = Host({"files": {"/a": "text", "/b": False, "/c": True}})
    assert (host.text("/a"), host.text("/b"), host.text("/c"), host.text("/d")) == ("text", None, None, None)  # fmt: skip
    assert [host.exists(path) for path in ("/a", "/b", "/c", "/d")] == [True, False, True, None]


def test_parts_of_the_wrong_shape_are_empty() -> None:
    host = Host({"files": [], "packages": {}, "env": {"A": 1}, "commands": {"x": "no"}})
    assert host.section("files") == host.section("nothing") == {}
    assert host.packages == []
    assert host.env("A") is None
    assert host.command("x") is None
    assert host.has("files")
    assert not host.has("nothing")


def test_a_command_that_did_not_end() -> None:
    host = Host({"commands": {"a": {"rc": None, "error": "no answer"}, "b": {"rc": 1, "out": "o", "err": "e"}}})  # fmt: skip
    assert host.command("a") == Command(None, "", "")
    said = host.command("b")
    assert said
    assert said.text == "o\ne"


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({}, ""),
        ({"files": {"/.dockerenv": True}}, "docker"),
        ({"files": {"/.dockerenv": True, "/run/.containerenv": True}}, "podman"),
        ({"files": {"/.dockerenv": True}, "env": {"KUBERNETES_SERVICE_HOST": "<ip1>"}}, "kubernetes"),
        ({"files": {"/.singularity.d": True}}, "apptainer"),
        ({"env": {"container": "lxc"}}, "lxc"),
        ({"env": {"container": "wsl"}}, ""),
    ],
)  # fmt: skip
def test_kinds_of_containers(facts: dict[str, Any], kind: str) -> None:
    assert Host(facts).container == kind
    assert Host(facts).in_container == bool(kind)


@pytest.mark.parametrize(
    ("kernel", "version"),
    [
        ("5.15.153.1-microsoft-standard-WSL2", 2),
        ("4.4.0-19041-Microsoft", 1),
        ("6.8.0-generic", 0),
    ],
)
def test_versions_of_wsl(kernel: str, version: int) -> None:
    assert Host({"system": {"kernel": kernel}}).wsl == version


def test_the_innermost_mount_counts() -> None:
    host = Host({"files": {"/proc/mounts": MOUNTS}})
    assert len(host.mounts) == 3
    places = {path: mount.point for path in ("/tmp/x", "/tmpx", "/mnt/my disk/a", "/tmp") if (mount := host.mount_of(path))}  # fmt: skip
    assert places == {"/tmp/x": "/tmp", "/tmpx": "/", "/mnt/my disk/a": "/mnt/my disk", "/tmp": "/tmp"}  # fmt: skip
    assert Host({}).mount_of("/x") is None


def test_imports_see_the_first_package_of_a_name() -> None:
    packages = [{"name": "Torch", "version": "1", "location": "/a"}, {"name": "torch", "version": "2", "location": "/b"}]  # fmt: skip
    host = Host({"packages": packages, "python": {"platlib": "/c"}})
    assert (host.version("TORCH"), host.site) == ("1", "/a")
    assert (host.version("triton"), host.package("triton")) == (None, None)
    assert Host({"python": {"platlib": "/c"}}).site == "/c"
