"""A Triton kernel is only tried where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable

from ftlab_doctor.probes import triton


def test_without_what_it_asks_it_is_skipped(torch_sees: Callable[[int], None]) -> None:
    torch_sees(0)
    assert "no GPU" in str(triton.main()["skipped"])
