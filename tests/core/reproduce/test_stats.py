"""Equivalence of groups: the distribution, the test, and when no claim is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

import pytest

from ftlab import cli, events
from ftlab.errors import ConfigError
from ftlab.reproduce import stats
from ftlab.run import Run

Group = Callable[..., list[Run]]


@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    [(0.95, 4, 2.131847), (0.975, 10, 2.228139), (0.75, 1, 1.0),
     (0.5, 7, 0.0), (0.05, 4, -2.131847), (0.975, 1000, 1.962339)],
)  # fmt: skip
def test_student(p: float, freedom: float, t: float) -> None:
    assert stats.t_quantile(p, freedom) == pytest.approx(t, abs=2e-6)
    assert stats.t_cdf(stats.t_quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-9)


def test_the_interval_is_welchs() -> None:
    found = stats.tost([1.0, 1.1, 1.2, 1.3], [1.1, 1.2, 1.3, 1.4], 0.5)
    # Equal spreads: 6 degrees of freedom, se = sqrt(2 * 0.0166667 / 4), t(0.95, 6) = 1.943180.
    assert found.difference == pytest.approx(0.1)
    assert found.high - found.difference == pytest.approx(1.943180 * 0.0912871, rel=1e-5)
    assert found.p == pytest.approx(1 - stats.t_cdf(0.4 / 0.0912871, 6), rel=1e-4)
    assert found.holds
    assert 0.9 < found.power < 1
    assert not stats.tost([1.0, 1.1, 1.2, 1.3], [1.1, 1.2, 1.3, 1.4], 0.2).holds
    assert stats.tost([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.1).power == 0  # too few to tell
    assert stats.tost([1.0] * 3, [1.05] * 3, 0.1).holds
    assert not stats.tost([1.0] * 3, [1.2] * 3, 0.1).holds


@pytest.fixture
def group(make_run: Callable[..., Run], make_change: Callable[..., Run]) -> Group:
    """`group([0.5, ...])`: runs with these losses at their last evaluation, a seed each."""
    numbers = count()

    def make(losses: list[float], **fields: str) -> list[Run]:
        made = []
        for seed, loss in enumerate(losses):
            run = make_change(make_run(f"r{next(numbers)}"), "seed", seed)
            for name, value in fields.items():
                make_change(run, name.replace("__", "."), value)
            with events.EventWriter(run.events_path) as writer:
                writer.write("eval", step=3, loss=9.0)
                writer.write("eval", step=5, loss=loss)
            made.append(run)
        return made

    return make


def test_the_words(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = group([1.00, 1.01, 0.99, 1.0]), group([1.01, 1.0, 1.0, 0.99])
    c, d = group([1.5, 1.51, 1.49]), group([1.0, 1.01, 0.99], data__store_sha256="e" * 64)
    root = str(a[0].path.parent)

    def compare(other: list[Run], *more: str) -> tuple[int, str]:
        words = ["compare", *(r.id for r in a), "--against", *(r.id for r in other)]
        code = cli.main([*words, "--margin", "0.05", "--runs-dir", root, *more])
        return code, capsys.readouterr().out

    code, said = compare(b)
    assert code == 0
    assert said.startswith(
        "STATISTICAL: the difference of eval loss lies inside the margin of 0.05"
    )
    assert "power to find equal groups equivalent: 100 %" in said
    code, said = compare(c, "--json")
    assert (code, json.loads(said)["verdict"]) == (4, "NOT REPRODUCED")
    assert json.loads(said)["test"]["difference"] == pytest.approx(0.5)
    code, said = compare(d)
    assert code == 4
    assert said.startswith("INCOMPARABLE: the groups differ in more than their seeds: data.store")
    assert cli.main(["compare", "r0", "--against", "r1", "--runs-dir", root]) == 2
    assert "--margin" in capsys.readouterr().err


def test_what_is_no_group(group: Group, make_change: Callable[..., Run]) -> None:
    a, b = group([1.0, 1.1, 1.2]), group([1.0, 1.1, 1.2])
    with pytest.raises(ConfigError, match="3 seeds or more, not 2"):
        stats.judge(a[:2], b, "loss", 1)
    with pytest.raises(ConfigError, match="margin must be above 0"):
        stats.judge(a, b, "loss", 0)
    with pytest.raises(ConfigError, match="no eval accuracy"):
        stats.judge(a, b, "accuracy", 1)
    make_change(b[2], "seed", 0)
    with pytest.raises(ConfigError, match="a seed is there twice"):
        stats.judge(a, b, "loss", 1)
