"""Tokens on a device: as they are on a CPU, padded to few shapes on a GPU, with the same losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from ftlab.models.attach import attach
from ftlab.models.engine import Decoder
from ftlab.models.tokens import pad, place, spread
from ftlab.planning.shapes import padded_tokens
from ftlab_kernels.reference.linear_cross_entropy import IGNORED

CPU = torch.device("cpu")


def _arrays(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, ...]:
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(3, 60, sum(lengths))
    positions = np.concatenate([np.arange(length) for length in lengths])
    labels = np.where(numbers.random(len(ids)) < 0.4, np.roll(ids, -1), IGNORED)
    labels[np.cumsum(lengths) - 1] = IGNORED
    return ids, positions, labels


def _decoder() -> Decoder:
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return attach(transformers.LlamaForCausalLM(config))


def _bounds(lengths: list[int]) -> list[int]:
    return [0, *np.cumsum(lengths).tolist()]


def test_a_cpu_gets_them_as_they_are() -> None:
    ids, positions, labels = _arrays([5, 9])
    made = place(ids, positions, labels, [0, 5, 14], CPU)
    for tensor, array in zip(
        (made.input_ids, made.position_ids, made.labels), (ids, positions, labels), strict=True
    ):
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert (made.cu_seqlens, made.picked, made.packed) == ((0, 5, 14), None, None)


@pytest.mark.parametrize("lengths", [[5, 9], [64], [30, 34], [700, 300, 25]])
def test_padding_is_a_sequence_without_labels(lengths: list[int]) -> None:
    ids, positions, labels = _arrays(lengths)
    packed, whole, bounds = pad(ids, positions, labels, _bounds(lengths))
    made, count = spread(packed, whole, bounds, CPU), len(ids)
    assert whole == padded_tokens(count) == len(made.input_ids)
    np.testing.assert_array_equal(made.input_ids[:count].numpy(), ids)
    np.testing.assert_array_equal(made.position_ids[:count].numpy(), positions)
    np.testing.assert_array_equal(made.labels[:count].numpy(), labels)
    assert (made.labels[count:] == IGNORED).all()
    assert made.position_ids[count:].tolist() == list(range(whole - count))
    assert bounds == _bounds(lengths) + ([] if whole == count else [whole])
    rows = np.flatnonzero(labels != IGNORED)
    assert made.picked is not None
    assert made.picked[: len(rows)].tolist() == rows.tolist()
    assert (made.labels[made.picked[len(rows) :]] == IGNORED).all()


def test_shapes_are_what_launches_depend_on() -> None:
    def shape(lengths: list[int]) -> tuple[object, ...]:
        packed, whole, bounds = pad(*_arrays(lengths), _bounds(lengths))
        return spread(packed, whole, bounds, CPU).shape

    assert shape([70, 50]) == shape([20, 31, 50])
    assert shape([70, 50]) != shape([70, 90])
    assert shape([700, 300])[2] == 8
    assert shape([1024, 1024])[2] == (0, 1024, 2048), "equal and long: a shape of its own"


@pytest.mark.parametrize("logprobs", [False, True])
def test_padding_changes_no_loss_and_no_gradient(
    logprobs: bool,
) -> None:
    decoder, lengths = _decoder(), [5, 9, 20]
    arrays, bounds = _arrays(lengths), _bounds(lengths)
    plain = place(*arrays, bounds, CPU)
    packed, whole, wider = pad(*arrays, bounds)
    padded = spread(packed, whole, wider, CPU)
    found = []
    for tokens in (plain, padded):
        values = (decoder.logprobs if logprobs else decoder.losses)(tokens)
        parameters = list(decoder.trainable().values())
        grads = torch.autograd.grad(values.sum(), parameters)
        found.append((values[: sum(lengths)].detach(), grads))
    (one, grads), (other, padded_grads) = found
    torch.testing.assert_close(one, other)
    assert (one != 0).sum() == (plain.labels != IGNORED).sum()
    assert any(grad.abs().max() > 0 for grad in grads)
    for a, b in zip(grads, padded_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
