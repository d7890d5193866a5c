"""From source to cached store: the same twice, never stale, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import child
from ftlab.data import prepare
from ftlab.data.tokens import TokenStore
from ftlab.errors import DataError, EnvironmentUnfit
from ftlab.facts import DataFacts, from_json, to_json
from ftlab.schema import DataSection

Write = Callable[..., Path]
ROWS = [{"prompt": f"{i} + {i} =", "completion": f" {2 * i}"} for i in range(30)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def section(path: Path, **more: Any) -> DataSection:
    return DataSection(source=str(path), **more)


def stores(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_facts_of_a_store(write_rows: Write, tiny: Any, cache: Path) -> None:
    path = write_rows("rows.jsonl", [*ROWS, {"prompt": "a", "completion": ""}])
    facts = prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    store = TokenStore.open(facts.store)
    assert facts.source == f"{path} (train)"
    assert facts.format == "prompt_completion"
    assert (facts.rows, facts.skipped, facts.duplicates) == (30, {"empty answer": 1}, 0)
    assert facts.sha256 == store.sha256
    assert facts.tokens == len(store.tokens)
    assert facts.trained_tokens == int(store.trained.sum())
    assert facts.sample == "0 + 0 =⟦ 0<|im_end|>⟧"
    assert from_json(DataFacts, json.loads(json.dumps(to_json(facts)))) == facts
    assert stores(cache) == [Path(facts.store).name]  # nothing half-made, no work left


def test_the_second_time_is_the_cache(
    write_rows: Write, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows("rows.jsonl", ROWS)
    first = prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    monkeypatch.setattr(prepare.build, "build", None)  # would fail
    assert prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache) == first
    elsewhere = write_rows("copy/of.jsonl", ROWS)
    again = prepare.prepare_store(section(elsewhere), tiny("qwen3"), cache_dir=cache)
    assert (again.store, again.source) == (first.store, f"{elsewhere} (train)")


def test_whatever_decides_the_tokens_gives_another_store(
    write_rows: Write, tiny: Any, cache: Path
) -> None:
    path = write_rows("rows.jsonl", ROWS)
    other = write_rows("other.jsonl", ROWS[1:])
    swap = {"prompt": "completion", "completion": "prompt"}
    for tokenizer, chosen in [
        ("qwen3", section(path)),
        ("llama3", section(path)),
        ("qwen3", section(other)),
        ("qwen3", section(path, split="train[:9]")),
        ("qwen3", section(path, train_on="all")),
        ("qwen3", section(path, chat_template="tokenizer")),
        ("qwen3", section(path, chat_template="chatml")),
        ("qwen3", section(path, columns=swap)),
    ]:
        prepare.prepare_store(chosen, tiny(tokenizer), cache_dir=cache)
    assert len(stores(cache)) == 8


def test_a_damaged_store_is_built_again_and_said(
    write_rows: Write, tiny: Any, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows("rows.jsonl", ROWS)
    first = prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    for name in ("tokens.npy", "meta.json"):
        file = Path(first.store) / name
        file.write_bytes(file.read_bytes()[:-5])
        assert prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache) == first
        assert "building it again" in capsys.readouterr().err
    assert len(stores(cache)) == 1


def test_a_fault_leaves_nothing(write_rows: Write, tiny: Any, cache: Path) -> None:
    path = write_rows("rows.jsonl", [*ROWS, {"prompt": "a", "completion": 5}])
    with pytest.raises(DataError, match=r"rows.jsonl, line 31"):
        prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    assert stores(cache) == []


def test_an_interrupt_leaves_nothing(
    write_rows: Write, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    path = write_rows("rows.jsonl", ROWS)
    monkeypatch.setattr(prepare.build, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    assert stores(cache) == []


def test_a_full_disk_is_said(
    write_rows: Write, tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_rows("rows.jsonl", ROWS)
    monkeypatch.setattr(prepare.build, "_append", full)
    with pytest.raises(EnvironmentUnfit, match=r"cannot be written: No space.*FTLAB_CACHE"):
        prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    assert stores(cache) == []


def test_a_cache_that_is_no_folder_is_said(write_rows: Write, tiny: Any, tmp_path: Path) -> None:
    path = write_rows("rows.jsonl", ROWS)
    with pytest.raises(EnvironmentUnfit, match="cannot be written: Not a directory"):
        prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=path / "cache")


def test_what_killed_builders_left_goes_after_a_day(
    write_rows: Write, tiny: Any, cache: Path
) -> None:
    for name, age in ((".building-1-old", 2 * 86400), (".building-2-new", 60)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    path = write_rows("rows.jsonl", ROWS)
    prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    assert stores(cache)[0] == ".building-2-new"
    assert len(stores(cache)) == 2


# A program, not a function for multiprocessing: its child would have to import this test.
PREPARE_THERE = """
import sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from ftlab.data import prepare
from ftlab.schema import DataSection
source, tokenizer, cache = sys.argv[1:]
loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer)
print(prepare.prepare_store(DataSection(source=source), loaded, cache_dir=Path(cache)).sha256)
"""


def test_several_processes_at_once(
    write_rows: Write, tiny: Any, cache: Path, tmp_path: Path
) -> None:
    tiny("qwen3").save_pretrained(tmp_path / "tokenizer")
    path = write_rows("rows.jsonl", ROWS * 30)
    command = [sys.executable, "-c", PREPARE_THERE, path, tmp_path / "tokenizer", cache]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child.environment())
        for _ in range(2)
    ]
    found = {worker.communicate(timeout=180)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len(found) == 1
    assert len(stores(cache)) == 1


def test_held_out_rows(write_rows: Write, tiny: Any, cache: Path) -> None:
    path = write_rows("rows.jsonl", ROWS + ROWS[:5])
    settings = section(path, eval_fraction=0.2)
    train, evaluation = prepare.prepare_split(settings, tiny("qwen3"), cache_dir=cache)
    whole = prepare.prepare_store(section(path), tiny("qwen3"), cache_dir=cache)
    assert train.rows + evaluation.rows == whole.rows == 35
    assert 6 <= evaluation.rows <= 8
    keys = [set(TokenStore.open(part.store).keys.tolist()) for part in (train, evaluation)]
    assert not keys[0] & keys[1]
    assert train.duplicates + evaluation.duplicates == whole.duplicates == 5
    again = prepare.prepare_split(settings, tiny("qwen3"), cache_dir=cache)
    assert again == (train, evaluation)
    other = prepare.prepare_split(settings, tiny("llama3"), cache_dir=cache)[1]
    assert set(TokenStore.open(other.store).keys.tolist()) == keys[1]  # for every tokenizer


def test_a_separate_evaluation_source(write_rows: Write, tiny: Any, cache: Path) -> None:
    path = write_rows("data/train.jsonl", ROWS)
    write_rows("data/test.jsonl", ROWS[:4])
    for given in (str(path.parent), f"{path.parent}:test", str(path.parent / "test.jsonl")):
        settings = section(path.parent, eval_source=given)
        assert prepare.prepare_store(settings, tiny("qwen3"), cache_dir=cache).rows == 30
        assert prepare.prepare_eval(settings, tiny("qwen3"), cache_dir=cache).rows == 4
    settings = section(path, eval_source=str(path.parent / "tests.jsonl"))
    with pytest.raises(DataError, match=r"data.eval_source: .*did you mean .*test.jsonl"):
        prepare.prepare_eval(settings, tiny("qwen3"), cache_dir=cache)


def test_a_config_and_a_model_give_both_parts(
    write_rows: Write, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftlab.facts import ModelFacts
    from ftlab.schema import RunConfig

    tiny("qwen3").save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "home"))
    model = ModelFacts(
        name="m", path=str(tmp_path / "model"), revision="", architecture="", family="", spec={},
        parameters=0, linear_shapes={}, embedding_parameters=0, stored_dtype="", stored_bytes=0,
        quantization="", max_positions=0, has_chat_template=True,
    )  # fmt: skip
    path = write_rows("rows.jsonl", ROWS)
    evaluation = write_rows("eval.jsonl", ROWS[:3])
    for given, counts in (
        (section(path), (30, None)),
        (section(path, eval_fraction=0.1), (27, 3)),
        (section(path, eval_source=str(evaluation)), (30, 3)),
    ):
        train, held_out = prepare.prepare(RunConfig(data=given), model)
        assert (train.rows, held_out and held_out.rows) == counts
        assert Path(train.store).parent == tmp_path / "home" / "stores"
    shutil.rmtree(tmp_path / "home")
