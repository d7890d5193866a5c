"""Signals become a wish, and handlers are given back."""

from __future__ import annotations

import os
import signal

import pytest

from ftlab.train.signals import SIGNALS, StopSignal


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_remembered_and_more_change_nothing(number: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.name == number.name


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignal():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
