"""Evaluators measure what they are given, and stop early when asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import AutoTokenizer

from ftlab.data.batches import BatchIndex, build_eval
from ftlab.data.tokens import TokenStore
from ftlab.models.engine import Decoder
from ftlab.train.evaluators import evaluator, sampler
from ftlab.train.objectives.dpo import Dpo, adapter_off
from ftlab.train.objectives.sft import Sft
from ftlab.train.signals import StopSignal


def batches_of(store: TokenStore) -> BatchIndex:
    return build_eval(
        store, batch_size=3, micro_batch_size=2, max_length=32, overlong="truncate", packing=False
    )


def test_sft_gives_perplexity(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    batches = batches_of(stores["sft-eval"])
    measured = evaluator(small_decoder(), Sft(0.1), batches, StopSignal())()
    assert set(measured) == {"loss", "perplexity", "tokens"}
    assert measured["tokens"] == batches.trained_tokens


def test_dpo_gives_its_metrics(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder = small_decoder()
    objective = Dpo(0.1, adapter_off)
    measured = evaluator(decoder, objective, batches_of(stores["dpo-eval"]), StopSignal())()
    assert set(measured) == {"loss", *objective.metrics}
    assert decoder.training


def test_a_signal_ends_it_after_the_step_at_hand(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    stop, batches = StopSignal(), batches_of(stores["sft-eval"])
    stop.name = "SIGTERM"
    measured = evaluator(small_decoder(), Sft(), batches, stop)()
    assert measured["tokens"] == batches.step(0).trained_tokens


@pytest.mark.parametrize("kind", ["sft-eval", "dpo-eval"])
def test_samples_are_always_the_same(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], kind: str
) -> None:
    decoder = small_decoder()
    tokenizer = AutoTokenizer.from_pretrained(decoder.model.name_or_path)
    sample = sampler(decoder, tokenizer, batches_of(stores[kind]), 2)
    first = sample()
    assert len(first) == 2
    assert first == sample()
    assert all(made.prompt and made.reference for made in first)
