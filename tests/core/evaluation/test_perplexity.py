"""Perplexity: the definition and the windows. The real model's figure: test_models.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ftlab.evaluation.perplexity import perplexity, windows
from ftlab.models.attach import attach


def test_is_exp_of_the_mean_over_tokens(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    tokens = np.random.default_rng(0).integers(3, 64, 21).tolist()
    found = perplexity(attach(model), windows(tokens, 8))
    total, count = 0.0, 0
    for start in (0, 8, 16):
        ids = torch.tensor(tokens[start : start + 8])
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        count += len(ids) - 1
    assert found.tokens == count == 18
    assert found.loss == pytest.approx(total / count, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(total / count), rel=1e-6)


def test_windows_do_not_overlap_and_a_single_token_is_left_out() -> None:
    found = list(windows(list(range(9)), 4))
    assert [micro.input_ids.tolist() for micro in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found[0].labels.tolist() == [1, 2, 3, -100]
    assert found[1].cu_seqlens.tolist() == [0, 4]


def test_nothing_to_measure_is_an_error(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        perplexity(attach(loaded[0]), windows([5], 4))
