"""A verdict is told in words that name what it rests on."""

from __future__ import annotations

from collections.abc import Callable

from ftlab.reproduce import text, verdict
from ftlab.run import Run

Finish = Callable[..., Run]
Change = Callable[..., Run]


def test_bitwise(make_run: Finish, make_change: Change) -> None:
    told = text.render(
        verdict.judge(make_run("a"), make_change(make_run("b"), "driver", "x" * 99, "bits"))
    )
    first, *rest = told.splitlines()
    assert first == "BITWISE: b gave the same bits as a at each of 5 steps, and the same files"
    assert rest == [
        "  differing fields that can change bits, within rounding (class bits):",
        f"    driver: 550.1 != {'x' * 37}...",
    ]


def test_not_reproduced_names_step_and_curve(make_run: Finish) -> None:
    told = text.render(verdict.judge(make_run("a"), make_run("b", losses={2: 0.75})))
    assert told.startswith("NOT REPRODUCED: b differs from a from step 2 of 5 on\n")
    assert "first difference: step 2: loss 0.5 != 0.75" in told
    assert "loss: largest difference 0.25, at step 2 of 5 common ones" in told
    assert "step      2  0.500000  0.750000  +2.5e-01" in told


def test_a_file_alone(make_run: Finish) -> None:
    told = text.render(verdict.judge(make_run("a"), make_run("b", weights=b"x")))
    assert "but not every file of the result" in told
    assert "output export/adapter/adapter_model.safetensors: " in told


def test_incomparable(make_run: Finish, make_change: Change) -> None:
    b = make_change(make_change(make_run("b"), "seed", 1), "data.store_sha256", "e")
    told = text.render(verdict.judge(make_run("a"), b))
    assert told.startswith("INCOMPARABLE: 2 fields differ that can change the result")
    assert "    seed: 3407 != 1" in told
    one = text.render(verdict.judge(make_run("c"), make_change(make_run("d"), "seed", 1)))
    assert "a field differs that can change the result" in one


def test_a_curve_that_is_no_number(make_run: Finish) -> None:
    told = text.render(verdict.judge(make_run("a"), make_run("b", losses={5: float("nan")})))
    assert "largest difference not a number, at step 5" in told
