"""Facts of the data: exact at every length the plan may choose, and remembered until a change."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ftlab import config, plan, probe
from ftlab.errors import DataError
from ftlab.facts import DataFacts, ModelFacts
from ftlab.probing import data
from ftlab.probing.model import model_facts
from ftlab.schema import ModelSection, RunConfig


@pytest.fixture(scope="module")
def model(smollm2: Path) -> ModelFacts:
    """Facts of the real small model."""
    return model_facts(ModelSection(name=str(smollm2)))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """60 rows of rising length, the last ones longer than 64 tokens."""
    path = tmp_path / "rows.jsonl"
    lines = [
        {"prompt": f"Count to {n}.", "completion": " ".join(map(str, range(n)))} for n in range(60)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """40 preference rows."""
    path = tmp_path / "pairs.jsonl"
    lines = [
        {
            "prompt": "Say it. " * (n % 5 + 1),
            "chosen": "yes " * (n + 1),
            "rejected": "no " * (45 - n),
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def asked(path: Path, *overrides: str) -> RunConfig:
    return config.parse(f"model: x/y\ndata: {path}\n", overrides=overrides)


@pytest.mark.parametrize("length", [32, 64, 100, "auto"])
@pytest.mark.parametrize("overlong", ["drop", "truncate"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_plan_counts_what_the_batches_are(
    model: ModelFacts, rows: Path, pairs: Path, length: Any, overlong: str, kind: str,
    make_facts: Any,
) -> None:  # fmt: skip
    from ftlab.data.batches import build
    from ftlab.data.tokens import TokenStore

    source = rows if kind == "sft" else pairs
    config_ = asked(
        source, f"model.max_length={length}", f"data.overlong={overlong}", "train.epochs=1.3",
        f"method.kind={kind}", "train.batch_size=8",
    )  # fmt: skip
    train, _ = data.data_facts(config_, model)
    made = plan.resolve(config_, dataclasses.replace(make_facts(), model=model, data=train))
    chosen = made.config
    index = build(
        TokenStore.open(train.store), seed=0, epochs=chosen.train.epochs, max_steps=None,
        batch_size=8, micro_batch_size=int(chosen.train.micro_batch_size),
        max_length=int(chosen.model.max_length), overlong=chosen.data.overlong,
        packing=bool(chosen.data.packing),
    )  # fmt: skip
    assert made.steps == index.steps
    assert made.steps_per_epoch == index.steps_per_epoch
    assert made.rows == index.rows_per_epoch
    whole = build(
        TokenStore.open(train.store), seed=0, epochs=1, max_steps=None, batch_size=8,
        micro_batch_size=1, max_length=int(chosen.model.max_length),
        overlong=chosen.data.overlong, packing=False,
    )  # fmt: skip
    assert made.train_tokens == pytest.approx(index.trained_tokens, rel=0.3)  # which rows: chance
    key = str(min(int(chosen.model.max_length), train.longest))
    assert train.usable[key][2] == whole.trained_tokens
    tokens = sum(len(micro.input_ids) for step in whole for micro in step.micro)
    assert train.usable[key][1] == tokens


def test_it_is_prepared_once_until_something_changes(
    model: ModelFacts, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = data._prepare

    def counting(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(data, "_prepare", counting)
    first = data.data_facts(asked(rows), model)
    assert data.data_facts(asked(rows), model) == first
    assert len(calls) == 1
    data.data_facts(asked(rows), model, cache=False)
    assert len(calls) == 2
    data.data_facts(asked(rows, "data.train_on=all"), model)
    data.data_facts(asked(rows, "model.max_length=32"), model)
    other = dataclasses.replace(model, hashes={**model.hashes, "tokenizer": "other"})
    data.data_facts(asked(rows), other)
    assert len(calls) == 5
    shutil.rmtree(first[0].store)
    assert data.data_facts(asked(rows), model) == first
    assert len(calls) == 6
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    assert data.data_facts(asked(rows), model)[0].rows == first[0].rows + 1
    assert len(calls) == 7


def test_evaluation_data(model: ModelFacts, rows: Path) -> None:
    train, held_out = data.data_facts(asked(rows, "data.eval_fraction=0.2"), model)
    assert held_out is not None
    assert held_out.usable
    assert train.rows + held_out.rows == data.data_facts(asked(rows), model)[0].rows
    separate = data.data_facts(asked(rows, f"data.eval_source={rows}"), model)[1]
    assert separate is not None
    assert data.data_facts(asked(rows, f"data.eval_source={rows}"), model)[1] == separate


def test_a_broken_line_is_named(model: ModelFacts, rows: Path) -> None:
    with rows.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="61"):
        data.data_facts(asked(rows), model)


def test_what_the_key_of_a_source_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}\n")
    single = data._stats(str(file))
    assert single is not None
    assert data._stats(f"{file}:test") == single
    assert data._stats(str(tmp_path / "*.jsonl")) == single
    assert data._stats(str(tmp_path)) == [*single, 1]
    assert data._stats("owner/data") is None
    os.utime(file, ns=(1, 1))
    assert data._stats(str(file)) != single
    model = ModelFacts("m", "m", "", "", "", {}, 0, {}, 0, "", 0, "", 0, False)
    hub = asked(Path("owner/data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert data._key(hub, model)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert data._key(hub, model) == ""


@pytest.mark.quiet
def test_the_whole_probe_twice(smollm2: Path, rows: Path) -> None:
    asked_ = config.parse(f"model: {smollm2}\ndata: {rows}\n")
    began = time.monotonic()
    first = probe.collect(asked_, cache=False, progress=False)
    middle = time.monotonic()
    second = probe.collect(asked_, progress=False)
    assert time.monotonic() - middle < 0.5 * (middle - began)
    assert (second.model, second.data) == (first.model, first.data)
    assert isinstance(second.data, DataFacts)
    made = plan.resolve(asked_, second)
    assert "⟦" in plan.render(made)
