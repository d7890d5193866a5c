"""Which code runs on which card, and what a snapshot says of cards and driver."""

from __future__ import annotations

import itertools

import pytest

from ftlab_doctor import rules, stack
from ftlab_doctor.host import Host


@pytest.mark.parametrize(
    ("arch", "cc", "runs"),
    [
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_60"], (6, 1), True),
        (["sm_90"], (10, 0), False),
        (["compute_80"], (12, 0), True),
        (["compute_90"], (8, 6), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_120"], (12, 1), True),
        ([], (8, 0), False),
        (["rubbish"], (8, 0), False),
    ],
)
def test_code_runs_by_the_rules_of_cuda(arch: list[str], cc: tuple[int, int], runs: bool) -> None:
    assert stack.runs_on(arch, cc) is runs


@pytest.mark.parametrize(
    ("device", "name", "cc"),
    [
        ("0x15f8", "Pascal", [6, 0]), ("0x1b38", "Pascal", [6, 1]), ("0x1db4", "Volta", [7, 0]), ("0x1eb8", "Turing", [7, 5]),
        ("0x20b5", "Ampere", [8, 0]), ("0x2204", "Ampere", [8, 6]), ("0x2684", "Ada", [8, 9]), ("0x2330", "Hopper", [9, 0]),
        ("0x2901", "Blackwell", [10, 0]), ("0x2b85", "Blackwell", [12, 0]), ("0x2e12", "Blackwell", [12, 1]), ("0x3182", "Blackwell", [10, 3]),
    ],
)  # fmt: skip
def test_cards_by_their_number(device: str, name: str, cc: list[int]) -> None:
    rule = rules.family(device)
    assert rule is not None
    assert (rule["name"], rule["cc"]) == (name, cc)


def test_no_two_families_claim_one_number() -> None:
    ranges = sorted((int(r["from"], 16), int(r["to"], 16)) for r in rules.tables()["families"])
    assert all(low <= high for low, high in ranges)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))


@pytest.mark.parametrize(
    ("ptxas", "cc", "knows"),
    [
        ("12.4", (9, 0), True), ("12.4", (12, 0), False), ("12.8", (12, 0), True), ("12.8", (10, 3), False), ("12.9", (12, 1), True),
        ("13.0", (7, 0), False), ("13.0", (7, 5), True), ("12.6", (8, 9), True), ("12.6", (10, 0), None), ("13.2", (12, 1), True),
        ("13.2", (7, 0), False), ("13.2", (10, 7), None), ("11.8", (8, 0), None), ("12", (8, 0), True),
    ],
)  # fmt: skip
def test_which_ptxas_knows_which_card(ptxas: str, cc: tuple[int, int], knows: bool | None) -> None:
    assert rules.assembles(ptxas, cc) is knows


def test_driver_and_cuda_from_whatever_tells_them() -> None:
    closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n"
    opened = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    for text, version in ((closed, "535.183.01"), (opened, "580.95.05"), ("", "")):
        assert stack.driver(Host({"files": {"/proc/driver/nvidia/version": text}})) == version
    assert stack.driver_cuda(Host({"cuda": {"version": 12040}})) == (12, 4)
    assert stack.driver_cuda(Host({})) is None
    assert stack.wheel_tag("12.8") == "cu128"
