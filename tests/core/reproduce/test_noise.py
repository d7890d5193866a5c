"""The noise floor is measured from ledgers, belongs to one run, and lets only rounding through."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from ftlab import ledger
from ftlab.errors import ConfigError
from ftlab.plan import Plan
from ftlab.reproduce import noise
from ftlab.reproduce.noise import Variant
from ftlab.run import Run

Finish = Callable[..., Run]


@pytest.fixture
def floor(make_run: Finish) -> tuple[Run, noise.Noise]:
    """A run whose losses other orders of sums move by 1e-3 from step 3 on."""
    a = make_run("a")
    others = [
        (make_run("n1", losses={3: 1 / 3 + 1e-3}), "train.micro_batch_size 1"),
        (make_run("n2", losses={2: 0.5 + 1e-6}), "4 CPU threads"),
    ]
    return a, noise.measure(a, others)


def test_the_floor_never_sinks(floor: tuple[Run, noise.Noise]) -> None:
    values = floor[1].floor["loss"]
    assert values[0] == 0
    assert values[1] == pytest.approx(1e-6, rel=0.1)
    assert values[2:] == pytest.approx([1e-3] * 3, rel=1e-3)
    assert set(floor[1].floor["grad_norm"]) == {0.0}


def test_it_is_kept_beside_its_run_and_is_of_no_other_ledger(
    floor: tuple[Run, noise.Noise],
) -> None:
    a, made = floor
    assert noise.load(a) is None
    noise.save(a, made)
    assert noise.load(a) == made
    with ledger.Ledger.open(a.ledger_path, 5) as book:
        book.append(step=6, loss=1, grad_norm=1, lr=1e-3, trained_tokens=9, batch_hash=6)
    assert noise.load(a) is None
    (a.path / "noise.json").write_text('{"runs": 3}')
    assert noise.load(a) is None


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ({4: 0.25 + 2.9e-3}, None),
        ({4: 0.25 + 3.2e-3}, 4),
        ({2: 0.5 + 2e-3}, None),  # another run may drift sooner
        ({1: 1 + 2**-22}, None),  # units in the last place, where the floor is zero
        ({1: 1 + 1e-5}, 1),
        ({5: math.nan}, 5),
        ({5: math.inf}, 5),
    ],
)
def test_inside_and_outside(
    floor: tuple[Run, noise.Noise], make_run: Finish, losses: dict[int, float], step: int | None
) -> None:
    a, made = floor
    b = make_run("b", losses=losses)
    found = noise.outside(made, ledger.read(a.ledger_path), ledger.read(b.ledger_path))
    assert (found.step if found else None) == step
    assert found is None or "rounding moves it by" in str(found)


def test_another_schedule_is_no_rounding(floor: tuple[Run, noise.Noise]) -> None:
    records = ledger.read(floor[0].ledger_path)
    other = [dataclasses.replace(r, lr=2e-3) if r.step == 2 else r for r in records]
    found = noise.outside(floor[1], records, other)
    assert found is not None
    assert (found.step, found.curve) == (2, "lr")


def test_what_cannot_be_a_floor_is_refused(make_run: Finish) -> None:
    a, same, short = make_run("a"), make_run("b"), make_run("c")
    with pytest.raises(ConfigError, match="two runs or more"):
        noise.measure(a, [(same, "")])
    with pytest.raises(ConfigError, match="changed a bit"):
        noise.measure(a, [(same, ""), (same, "")])
    ledger.Ledger.open(short.ledger_path, 3).close()
    with pytest.raises(ConfigError, match="c saw other batches than a"):
        noise.measure(a, [(same, ""), (short, "")])


def test_variants_change_sums_only(resolve: Callable[..., Plan]) -> None:
    plan = resolve(["train.batch_size=8", "train.micro_batch_size=4"])
    assert [str(v) for v in noise.variants(plan)] == [
        *(f"train.micro_batch_size {n}" for n in (3, 2, 1, 5, 8)),
        *(f"{n} CPU threads" for n in (1, 3, 4)),
    ]
    dropout = resolve(["adapter.lora_dropout=0.1", "train.micro_batch_size=4"])
    assert [v.micro_batch_size for v in noise.variants(dropout)] == [None] * 3
    gpu = resolve(["train.batch_size=2", "train.micro_batch_size=2"], gpus=("a100",))
    assert list(noise.variants(gpu)) == [Variant(micro_batch_size=1)]
