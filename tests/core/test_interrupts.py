"""Signals are counted inside the block and handled as before outside it."""

from __future__ import annotations

import os
import signal
import threading

from ftlab.interrupts import Interrupts


def test_counting_and_restoring() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.count == 2
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_is_counted() -> None:
    counts: list[int] = []

    def use() -> None:
        with Interrupts() as interrupts:
            counts.append(interrupts.count)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert counts == [0]
