"""A verdict in words, for people. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from ftlab.identity import BITS, NONE, NUMERICS
from ftlab.reproduce.compare import UNRECORDED, Curve
from ftlab.reproduce.verdict import BITWISE, INCOMPARABLE, NOT_REPRODUCED, NUMERIC, Verdict

MEANING = {
    NUMERICS: "can change the result beyond rounding",
    BITS: "can change bits, within rounding",
    NONE: "change nothing",
    UNRECORDED: "only one of the two wrote down",
}
_WIDEST = 40  # characters of a value
_CURVE_ROWS = 8


def render(verdict: Verdict) -> str:
    """The verdict first, then what it rests on."""
    return "\n".join([f"{verdict.word}: {_because(verdict)}", *_details(verdict)])


def _because(verdict: Verdict) -> str:
    a, b = verdict.a, verdict.b
    if verdict.word == BITWISE:
        return f"{b} gave the same bits as {a} at each of {verdict.steps} steps, and the same files"
    if verdict.word == INCOMPARABLE:
        count = len(verdict.of_class(NUMERICS))
        what = f"{count} fields differ" if count > 1 else "a field differs"
        return f"{what} that can change the result, so no claim is made about {a} and {b}"
    if verdict.word == NUMERIC:
        among = f"{len(verdict.floor or ())} runs with another order of sums"
        return (
            f"{b} saw the batches of {a} at each of {verdict.steps} steps, and its curves stay "
            f"inside the noise floor that {among} gave"
        )
    if verdict.first is None:
        return f"every step of {b} has the bits of {a}, but not every file of the result"
    return f"{b} differs from {a} from step {verdict.first.step} of {verdict.steps} on"


def _details(verdict: Verdict) -> Iterator[str]:
    if verdict.first is not None:
        yield f"  first difference: {verdict.first}"
        if verdict.word == NOT_REPRODUCED:
            yield (
                f"  `ftrun reproduce {verdict.a} --trace {verdict.first.step}`, there and here, "
                f"names the tensor"
            )
    if verdict.excess is not None:
        yield f"  outside the noise floor: {verdict.excess}"
    elif verdict.word == NOT_REPRODUCED and verdict.floor is None and verdict.first is not None:
        yield (
            "  whether rounding alone can do this is not known: `ftrun reproduce "
            f"{verdict.a} --calibrate 3` measures it"
        )
    for output in verdict.outputs:
        yield f"  output {output.name}: {_short(output.a)} != {_short(output.b)}"
    if verdict.curve is not None and verdict.curve.at:
        yield from _curve(verdict.curve)
    for kind in (NUMERICS, BITS, UNRECORDED, NONE):
        found = verdict.of_class(kind)
        if found:
            yield f"  differing fields that {MEANING[kind]} (class {kind}):"
        for field in found:
            yield f"    {field.name}: {_short(field.a)} != {_short(field.b)}"


def _curve(curve: Curve) -> Iterator[str]:
    apart = "not a number" if math.isinf(curve.largest) else f"{curve.largest:.3g}"
    yield f"  loss: largest difference {apart}, at step {curve.at} of {curve.steps} common ones"
    stride = max(1, math.ceil(len(curve.rows) / _CURVE_ROWS))
    for step, one, two in curve.rows[::-1][::stride][::-1]:
        yield f"    step {step:>6}  {one:.6f}  {two:.6f}  {two - one:+.1e}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
