"""The rate of drawing, by a clock that is set; and what watching costs on a real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.monitor.pacing import Pacing


class Clock:
    def __init__(self) -> None:
        self.now = self.spent = 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pacing(clock: Clock) -> Pacing:
    return Pacing(0.1, 2.0, lambda: clock.now, lambda: clock.spent)


def test_cheap_drawing_is_done_at_every_look(pacing: Pacing, clock: Clock) -> None:
    for _ in range(5):
        assert pacing.due()
        clock.now += 0.5
        clock.spent += 0.01


def test_dear_drawing_waits_until_it_is_a_small_share(pacing: Pacing, clock: Clock) -> None:
    assert pacing.due()
    clock.spent += 0.12
    clock.now += 1.0
    assert not pacing.due()
    clock.now += 0.3
    assert pacing.due()


def test_a_chart_is_never_far_behind(pacing: Pacing, clock: Clock) -> None:
    assert pacing.due()
    clock.spent += 60
    clock.now += 1.9
    assert not pacing.due()
    clock.now += 0.2
    assert pacing.due()
    pacing.reset()
    assert pacing.due()


@pytest.mark.quiet
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)])
def test_watching_costs_little(
    busy: Run, make_app: Callable[..., FtuiApp], slowness: float, size: tuple[int, int]
) -> None:
    """Under 10 % of a core, screen and all, while another process writes 200 events a second."""

    async def watch() -> list[float]:
        seen: list[float] = []
        async with make_app(busy, now=time.time()).run_test(size=size):
            await asyncio.sleep(1.5)
            while len(seen) < 4 and (not seen or min(seen) >= 0.10 * slowness):
                before, began = time.process_time(), time.perf_counter()
                await asyncio.sleep(3)
                seen.append((time.process_time() - before) / (time.perf_counter() - began))
        return seen

    seen = asyncio.run(watch())
    print(f"watching at {size[0]}x{size[1]}: {min(seen):.1%} of a core, slowness {slowness:.1f}")
    assert min(seen) < 0.10 * slowness
