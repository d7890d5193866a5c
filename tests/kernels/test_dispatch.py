"""The choice between kernel and reference, its reasons, and the report of what ran."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from ftlab_kernels import dispatch
from ftlab_kernels.dispatch import KernelUnavailable, choose


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    dispatch.reset()
    with dispatch.using("auto"):
        yield
    dispatch.reset()


def test_a_cpu_tensor_takes_the_reference_and_says_why() -> None:
    choice = choose("rms_norm", torch.zeros(2), None)
    assert (choice.name, choice.reason) == ("reference", "tensors are on the CPU")


def test_interpreted_a_cpu_tensor_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("rms_norm", torch.zeros(2)).name == "kernel"
    assert choose("attention", torch.zeros(2), library="faster").name == "library"
    refused = choose("rms_norm", torch.zeros(2, dtype=torch.float64))
    assert (refused.name, refused.reason) == ("reference", "torch.float64 has no kernel")
    refused = choose("rms_norm", torch.zeros(2), unless="rows are too long")
    assert (refused.name, refused.reason) == ("reference", "rows are too long")
    assert choose("nf4", torch.zeros(2, dtype=torch.uint8)).name == "kernel"


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = torch.zeros(2, device="meta")
    assert choose("rope", meta).reason == "tensors are on meta"
    assert choose("rope", meta, torch.zeros(2)).reason == "tensors lie on meta and on cpu"


@pytest.mark.parametrize(
    ("op", "capability", "triton", "bf16", "reason"),
    [
        ("rope", (6, 1), (3, 0), False, "compute capability 6.1 is below 7.0"),
        ("rope", (7, 5), (3, 0), True, "compute capability 7.5 has no bfloat16"),
        ("rope", (7, 5), (3, 6), False, None),
        ("attention", (7, 5), (3, 0), False, None),
        ("attention", (8, 0), (3, 6), True, None),
        (
            "attention", (7, 5), (3, 6), False,
            "triton 3.6 has no tensor cores for compute capability 7.5; 3.0 has",
        ),
    ],
)  # fmt: skip
def test_old_cards(
    op: str, capability: tuple[int, int], triton: tuple[int, int], bf16: bool, reason: str | None
) -> None:
    assert dispatch.too_old(op, capability, triton, bf16) == reason


def test_products_on_a_card_without_tensor_cores_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not dispatch.multiplies(torch.zeros(2))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.multiplies(torch.zeros(2))

    class OnCard:
        is_cuda = True
        device = torch.device("cuda", 0)

    monkeypatch.setattr(dispatch, "_capability", lambda index: (7, 5))
    for triton, runs in (((3, 0), True), ((3, 6), False)):
        monkeypatch.setattr(dispatch, "triton_version", lambda triton=triton: triton)
        dispatch._card_obstacle.cache_clear()
        assert dispatch.multiplies(OnCard()) is runs  # type: ignore[arg-type]
    dispatch._card_obstacle.cache_clear()
    (line,) = dispatch.report()
    assert (line["op"], line["choice"], line["count"]) == ("product", "reference", 1)
    assert "no tensor cores for compute capability 7.5" in line["reason"]


def test_the_version_of_triton() -> None:
    import triton

    assert dispatch.triton_version() == tuple(
        int(part) for part in triton.__version__.split(".")[:2]
    )


def test_require_raises_and_off_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    with dispatch.using("require"), pytest.raises(KernelUnavailable, match=r"rope: .*on the CPU"):
        choose("rope", torch.zeros(2))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with dispatch.using("off"):
        assert choose("rope", torch.zeros(2)).name == "reference"
    assert dispatch.mode() == "auto"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'fast'; allowed: auto, require, off"):
        dispatch.set_mode("fast")  # type: ignore[arg-type]
    done = subprocess.run(
        [sys.executable, "-c", "import ftlab_kernels.dispatch as d; print(d.mode())"],
        env={"FTLAB_KERNELS": "off", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "off\n", done.stderr


def test_the_report_counts_what_ran() -> None:
    for _ in range(3):
        choose("rope", torch.zeros(2))
    dispatch.record("attention", "library", "faster here")
    report = dispatch.report()
    assert json.loads(json.dumps(report)) == [
        {"op": "attention", "choice": "library", "reason": "faster here", "count": 1},
        {"op": "rope", "choice": "reference", "reason": "tensors are on the CPU", "count": 3},
    ]
