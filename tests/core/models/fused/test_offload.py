"""Offloaded tensors travel in pieces and come back as they were."""

from __future__ import annotations

import pytest
import torch

from ftlab.models.fused.offload import Offload
from ftlab.planning import buffers


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PINNED_PIECE", 64)
    monkeypatch.setattr(buffers, "PINNED_LEAST", 16)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_hold_every_element() -> None:
    away = Offload(torch.device("cpu"))
    sent = []
    for layer in range(4):  # two slots: the first two are overwritten
        slot = away.slot(layer, "input", 7, 5, torch.float32)
        sent.append(slot.normal_().clone())
        away.send(layer, "input")
    assert len(away.host[0, "input"]) == 3  # 140 bytes: 64, 64 and the rest
    assert away.nbytes() == 4 * 7 * 5 * 4
    for layer in (3, 2, 1, 0):
        assert torch.equal(away.take(layer, "input"), sent[layer])


@pytest.mark.usefixtures("small_pieces")
def test_memory_grows_with_the_batch_and_nothing_is_given_up() -> None:
    away = Offload(torch.device("cpu"))
    for rows in (3, 9, 4):
        sent = away.slot(0, "mlp", rows, 8, torch.float32).normal_().clone()
        away.send(0, "mlp")
        away.slots["mlp", 0].layer = -1  # as after another layer
        assert torch.equal(away.take(0, "mlp"), sent)
        away.end()
    assert len(away.host[0, "mlp"]) == 5
    assert len(away.outgrown) == 1  # the short last piece of three rows
