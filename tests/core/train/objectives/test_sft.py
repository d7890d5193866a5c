"""The SFT objective against cross-entropy written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from ftlab.data.batches import build_eval
from ftlab.data.tokens import TokenStore
from ftlab.models.engine import Decoder
from ftlab.train.batch import to_device
from ftlab.train.objectives.sft import Sft


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_is_the_summed_cross_entropy_of_trained_tokens(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], label_smoothing: float
) -> None:
    decoder = small_decoder()
    step = build_eval(
        stores["sft-eval"], batch_size=10, micro_batch_size=10, max_length=32,
        overlong="truncate", packing=False,
    ).step(0)  # fmt: skip
    batch = to_device(step.micro[0], "cpu")
    loss, metrics = Sft(label_smoothing).loss(decoder, batch, None)

    expected = 0.0
    tokens = batch.tokens
    for start, end in itertools.pairwise(tokens.cu_seqlens):
        with torch.no_grad():
            logits = decoder.model(tokens.input_ids[None, start:end]).logits[0]
        expected += F.cross_entropy(
            logits, tokens.labels[start:end], reduction="sum", label_smoothing=label_smoothing
        ).item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert loss.dtype == torch.float32
    assert metrics == ()
    assert Sft().units(step) == step.trained_tokens == int((tokens.labels != -100).sum())


# torch 2.4's own checkpoint uses a name that torch 2.4 deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast:FutureWarning")
def test_checkpointing_changes_no_bit(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    step = build_eval(
        stores["sft-eval"], batch_size=4, micro_batch_size=4, max_length=32,
        overlong="truncate", packing=False,
    ).step(0)  # fmt: skip
    gradients = []
    for checkpointing in (False, True):
        decoder = small_decoder()
        batch = to_device(step.micro[0], "cpu")
        loss, _ = Sft(checkpointing=checkpointing).loss(decoder, batch, None)
        loss.backward()
        gradients.append([p.grad for p in decoder.trainable().values()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)
