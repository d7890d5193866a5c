"""BITWISE, NOT REPRODUCED or INCOMPARABLE, each only when it is true."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ftlab.errors import FtlabError
from ftlab.reproduce import verdict
from ftlab.run import Run

Finish = Callable[..., Run]
Change = Callable[..., Run]


def test_equal_runs_are_bitwise(make_run: Finish, make_change: Change) -> None:
    b = make_change(make_run("b"), "driver", "600", "bits")  # other bits were possible, none came
    found = verdict.judge(make_run("a"), b)
    assert (found.word, found.exit_code, found.steps) == ("BITWISE", 0, 5)
    assert [field.name for field in verdict.suspects(found)] == ["driver"]


def test_one_bit_of_one_loss_is_found(make_run: Finish) -> None:
    found = verdict.judge(make_run("a"), make_run("b", losses={4: 0.25000003}))
    assert (found.word, found.exit_code) == ("NOT REPRODUCED", 4)
    assert found.first is not None
    assert (found.first.step, found.first.field) == (4, "loss")


def test_other_weights_alone_are_not_reproduced(make_run: Finish) -> None:
    found = verdict.judge(make_run("a"), make_run("b", weights=b"x"))
    assert (found.word, found.first, len(found.outputs)) == ("NOT REPRODUCED", None, 1)


def test_other_data_is_incomparable_even_with_equal_bits(
    make_run: Finish, make_change: Change
) -> None:
    found = verdict.judge(make_run("a"), make_change(make_run("b"), "data.store_sha256", "e" * 64))
    assert (found.word, found.exit_code) == ("INCOMPARABLE", 4)


def test_json_is_strict(make_run: Finish) -> None:
    made = verdict.judge(make_run("a"), make_run("b", losses={1: float("nan")})).to_json()
    text = json.dumps(made, allow_nan=False)
    assert json.loads(text)["verdict"] == "NOT REPRODUCED"
    assert json.loads(text)["first"]["step"] == 1
    assert json.loads(text)["exit_code"] == 4


def test_a_missing_ledger_is_an_error(make_run: Finish) -> None:
    a, b = make_run("a"), make_run("b")
    b.ledger_path.unlink()
    with pytest.raises(FtlabError, match="ledger"):
        verdict.judge(a, b)


def test_before_the_run(make_run: Finish) -> None:
    a = make_run("a")
    same = json.loads(a.manifest_path.read_text())["identity"]
    assert verdict.before_the_run(a, "b", same) is None
    unknown = {**same, "data.stream_sha256": {"value": None, "class": "numerics"}}
    assert verdict.before_the_run(a, "b", unknown) is None
    other = {**same, "model.weights_sha256": {"value": "x", "class": "numerics"}}
    found = verdict.before_the_run(a, "b", other)
    assert found is not None
    assert (found.word, [f.name for f in found.of_class("numerics")]) == (
        "INCOMPARABLE", ["model.weights_sha256"],
    )  # fmt: skip
