"""The machine: what is read of /proc, and who it is that must not be named."""

from __future__ import annotations

import pwd
from typing import Any

import pytest

from ftlab_doctor.collect import system


def test_this_machine() -> None:
    facts: dict[str, Any] = {}
    system.collect(facts)
    found = facts["system"]
    assert (found["name"], found["cores"] > 0, found["memory"]["MemTotal"] > 1 << 28) == ("Linux", True, True)  # fmt: skip
    assert set(found["cgroup"]) == {"memory", "cpu", "pids"}
    assert set(facts["identity"]) == {"users", "hosts", "home"}


def test_release_and_memory_are_read_as_they_are_written() -> None:
    said = system._release(
        "ID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME='Ubuntu 22.04 LTS'\nHOME_URL=x\nbroken\n"
    )
    assert said == {"ID": "ubuntu", "VERSION_ID": "22.04", "PRETTY_NAME": "Ubuntu 22.04 LTS"}
    assert system._pairs("MemTotal:  24 kB\nHugePages_Total: 0\nodd\n") == {"MemTotal": 24, "HugePages_Total": 0}  # fmt: skip


def test_a_number_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert system._named() is False
    monkeypatch.setenv("USER", "me")
    assert system._named() is True
    assert "me" in system.identity()["users"]
