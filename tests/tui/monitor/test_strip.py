"""The strip of GPUs: what is known is told, in any width."""

from __future__ import annotations

import pytest

from ftlab_tui.monitor import strip
from ftlab_tui.reading.gpus import GpuNow

GIB = 1 << 30
FULL = GpuNow(0, "NVIDIA H100", "u", 61 * GIB, 80 * GIB, 97, 91, 612.0, 700.0, ("too hot",))
BARE = GpuNow(1, "NVIDIA T4", "v", None, None, None, None, None, None)


@pytest.mark.parametrize("width", [10, 40, 100, 200])
def test_a_line_a_gpu(width: int) -> None:
    text = strip.lines((FULL, BARE), "", {}, width, {})
    first, second = text.plain.splitlines()
    assert max(len(first), len(second)) <= width
    if width >= 100:
        for words in ("GPU 0 H100", "61.0/80.0 GiB", "97%", "91 °C", "612/700 W", "too hot"):
            assert words in first
        assert second.split("   ") == ["GPU 1 T4", "throttle: none"]


def test_without_a_gpu_the_reason() -> None:
    text = strip.lines((), "no NVIDIA GPU on this machine", {"mem_bytes": 3 * GIB}, 120, {}).plain
    assert text == "trainer's peak memory 3.00 GiB   no NVIDIA GPU on this machine"
    assert strip.lines((), "why", {}, 120, {}).plain == "why"


def test_the_meter_has_eighths() -> None:
    assert strip.meter(0.0, 4, {}).plain == "▕    ▏"
    assert strip.meter(1.5, 4, {}).plain == "▕████▏"
    assert strip.meter(0.53, 4, {}).plain == "▕██▏ ▏"
