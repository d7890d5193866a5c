"""Two GPUs, or there is nobody to talk to."""

from __future__ import annotations

from collections.abc import Callable

from ftlab_doctor.probes import nccl


def test_without_what_it_asks_it_is_skipped(torch_sees: Callable[[int], None]) -> None:
    torch_sees(0)
    assert "0 GPU" in str(nccl.main()["skipped"])


def test_one_gpu_is_not_enough(torch_sees: Callable[[int], None]) -> None:
    torch_sees(1)
    assert nccl.main() == {"skipped": "1 GPU"}
