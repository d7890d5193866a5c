"""Questions are cut where the answer begins; answers come beside what was hoped for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ftlab.data.tokens import StoreWriter
from ftlab.evaluation.samples import Question, answer, question


def test_question_ends_where_the_first_answer_begins(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, preference=False) as writer:
        writer.append(np.arange(5, 13), np.array([0, 0, 0, 1, 1, 0, 1, 1]), np.array([[8]]))
        store = writer.finish()
    assert question(store, 0) == Question([5, 6, 7], [8, 9])


def test_plain_text_is_its_own_prompt(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, preference=False) as writer:
        writer.append(np.arange(5, 15), np.ones(10), np.array([[10]]))
        writer.append(np.full(100, 7), np.ones(100), np.array([[100]]))
        store = writer.finish()
    assert question(store, 0) == Question([5, 6, 7, 8, 9], [10, 11, 12, 13, 14])
    assert len(question(store, 1).prompt) == 32


def test_a_preference_row_hopes_for_the_chosen_answer(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, preference=True) as writer:
        writer.append(np.arange(5, 11), np.array([0, 0, 1, 1, 1, 1]), np.array([[2, 2, 2]]))
        store = writer.finish()
    assert question(store, 0) == Question([5, 6], [7, 8])


def test_answers_lie_beside_their_references(loaded: tuple[Any, Any]) -> None:
    made = answer(*loaded, [Question([5, 6], [7, 8, 1]), Question([9], [10])])
    assert [(sample.prompt, sample.reference) for sample in made] == [
        ("w5 w6", "w7 w8"),
        ("w9", "w10"),
    ]
    assert answer(*loaded, []) == []
