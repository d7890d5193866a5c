"""Before the first step: what is captured, what is not and why; memory is in test_build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ftlab.data.batches import BatchIndex, build
from ftlab.data.tokens import TokenStore
from ftlab.models.engine import Decoder
from ftlab.train import rehearsal
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import optimizer
from ftlab.train.rehearsal import kept_gradients, settle
from ftlab_kernels import dispatch


@pytest.fixture(autouse=True)
def _fresh_report() -> Iterator[None]:
    dispatch.reset()
    yield
    dispatch.reset()


@pytest.fixture
def batches(stores: dict[str, TokenStore]) -> BatchIndex:
    return build(
        stores["sft"], seed=1, epochs=1, max_steps=2, batch_size=4, micro_batch_size=4,
        max_length=32, overlong="truncate", packing=False,
    )  # fmt: skip


def _graphs() -> list[tuple[str, str]]:
    """What the manifest will say about graphs."""
    return [
        (ran["choice"], ran["reason"]) for ran in dispatch.report() if ran["op"] == "cuda_graphs"
    ]


class _Captures:
    """A decoder's way to capture, imitated; `rehearse` counts whether graphs were on."""

    def __init__(self, decoder: Decoder, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
        self.seen: list[bool] = []
        monkeypatch.setattr(decoder, "uncapturable", lambda: None)
        monkeypatch.setattr(decoder, "replay", lambda: setattr(decoder, "graphs", object()))

        def rehearse(model: Any, *_: Any) -> None:
            self.seen.append(model.graphs is not None)
            if fails and model.graphs is not None:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")

        monkeypatch.setattr(rehearsal, "rehearse", rehearse)


def test_the_largest_micro_batch_is_captured(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, said = small_decoder(), list[str]()
    captures = _Captures(decoder, monkeypatch, fails=False)
    settle(None, decoder, Sft(), batches, None, said.append)  # type: ignore[arg-type]
    assert captures.seen == [False, True], "launched once, so that kernels are ready, then captured"
    assert (said, _graphs()) == ([], [("kernel", "supported")])


def test_a_capture_that_fails_costs_time_alone(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, said = small_decoder(), list[str]()
    _Captures(decoder, monkeypatch, fails=True)
    settle(None, decoder, Sft(), batches, None, said.append)  # type: ignore[arg-type]
    assert decoder.graphs is None
    (line,) = said
    assert line.startswith("no CUDA graph could be captured (operation not permitted")
    assert "more" not in line.split(";")[0]
    assert _graphs()[0][0] == "reference"


def test_graphs_can_be_switched_off(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = small_decoder()
    captures = _Captures(decoder, monkeypatch, fails=False)
    monkeypatch.setenv(rehearsal.GRAPHS, "off")
    settle(None, decoder, Sft(), batches, None, pytest.fail)  # type: ignore[arg-type]
    assert captures.seen == [False]
    assert _graphs() == [("reference", "FTLAB_CUDA_GRAPHS is off")]


def test_a_cpu_captures_nothing_and_keeps_no_gradients(
    small_decoder: Callable[..., Decoder], batches: BatchIndex
) -> None:
    decoder = small_decoder()
    made = optimizer("adamw", decoder.trainable())
    assert kept_gradients(decoder, made) is None
    settle(None, decoder, Sft(), batches, None, pytest.fail)  # type: ignore[arg-type]
    assert _graphs() == [("reference", "the model is on cpu")]
