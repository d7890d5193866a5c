"""Reading a config: shorthand, overrides, and every problem in one error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftlab import child, config
from ftlab.errors import ConfigError
from ftlab.schema import RunConfig

MINIMAL = {"model": {"name": "m"}, "data": {"source": "d"}}


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "c.yaml")
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_two_lines_are_a_config() -> None:
    parsed = config.parse("model: some/model\ndata: rows.jsonl\n")
    assert parsed.model.name == "some/model"
    assert parsed.data.source == "rows.jsonl"
    assert parsed == config.from_mapping(
        {"model": {"name": "some/model"}, "data": {"source": "rows.jsonl"}}
    )


def test_values_reach_their_sections() -> None:
    parsed = config.parse(
        "model: {name: m, precision: nf4}\n"
        "data: {source: d, columns: {prompt: q, completion: a}, packing: off}\n"
        "optim: {learning_rate: 2e-4}\n"
        "memory: {checkpointing: on, budget: 8GiB}\n"
        "train:\n"
        "  max_steps: 10\n"
        "launch: {devices: [0]}\n"
    )
    assert parsed.optim.learning_rate == pytest.approx(2e-4)
    assert parsed.memory.checkpointing == "on"
    assert parsed.data.packing is False
    assert parsed.launch.devices == [0]
    assert parsed.train.max_steps == 10


def test_all_problems_at_once() -> None:
    found = problems(
        "modle: x\n"
        "model: {name: m, precision: nf5, max_length: 4}\n"
        "data: {source: d, learning_rate: 1e-4}\n"
        "optim: {learnin_rate: 1, learning_rate: fast}\n"
        "train: {batch_size: true, lr: 3}\n"
        "method: {beta: 0.3}\n"
        "zzz: 1\n"
    )
    assert len(found) == 10
    assert "did you mean model?" in found["modle"]
    assert "did you mean nf4?" in found["model.precision"]
    assert "from 8" in found["model.max_length"]
    assert "learning_rate belongs under optim" in found["data.learning_rate"]
    assert "did you mean learning_rate?" in found["optim.learnin_rate"]
    assert "'fast'" in found["optim.learning_rate"]
    assert "(line 5)" in found["train.batch_size"]
    assert "optim.learning_rate" in found["train.lr"]
    assert "has no effect" in found["method.beta"]
    assert "known here: model, adapter" in found["zzz"]


def test_unknown_key_near_one_of_another_section() -> None:
    assert (
        "did you mean optim.learning_rate?"
        in problems("model: m\ndata: d\nlearning_rates: 3\n")["learning_rates"]
    )


def test_missing_required_settings_are_named_with_an_example() -> None:
    found = problems("train: {epochs: 1}")
    assert set(found) == {"model.name", "data.source"}
    assert "required" in found["model.name"]
    assert "such as" in found["model.name"]


def test_empty_required_setting() -> None:
    assert "required, but empty" in problems("model: {name: }\ndata: d")["model.name"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "c.yaml is empty (the smallest config is two lines"),
        ("# nothing\n", "is empty"),
        ("- a\n", "is a list"),
        ("just text", "is a single value"),
    ],
)
def test_not_a_mapping(text: str, words: str) -> None:
    assert words in problems(text)[""]


def test_a_section_that_is_no_mapping() -> None:
    found = problems("model: m\ndata: [a]\ntrain: 3\n")
    assert "write data: {source: ...}" in found["data"]
    assert "expected a mapping" in found["train"]
    assert set(found) == {"data", "train"}


def test_an_empty_section_is_all_defaults() -> None:
    assert config.parse("model: m\ndata: d\ntrain:\n") == config.parse("model: m\ndata: d\n")


def test_rules_skip_settings_that_are_already_wrong() -> None:
    found = problems("model: {name: m, precision: nf5}\ndata: d\nadapter: {kind: none}\n")
    assert set(found) == {"model.precision"}


def test_from_mapping_accepts_what_yaml_1_1_readers_give() -> None:
    parsed = config.from_mapping(
        {**MINIMAL, "optim": {"learning_rate": "2e-4"}, "memory": {"checkpointing": True}}
    )
    assert parsed.optim.learning_rate == pytest.approx(2e-4)
    assert parsed.memory.checkpointing == "on"


def test_from_mapping_refuses_a_list() -> None:
    wrong: Any = ["model"]
    with pytest.raises(ConfigError, match="expected a mapping"):
        config.from_mapping(wrong)


def test_overrides() -> None:
    mapping = config.apply_overrides(
        {"model": "m", "data": "d"},
        [
            "model.precision=bf16",
            "optim.learning_rate=2e-4",
            "data.columns.prompt=question",
            "train.max_steps=5",
            "data=other.jsonl",
        ],
    )
    assert mapping == {
        "model": {"name": "m", "precision": "bf16"},
        "data": {"source": "other.jsonl", "columns": {"prompt": "question"}},
        "optim": {"learning_rate": 2e-4},
        "train": {"max_steps": 5},
    }


def test_overrides_leave_the_mapping_alone() -> None:
    before: dict[str, Any] = {"model": {"name": "m"}}
    config.apply_overrides(before, ["model.name=x"])
    assert before == {"model": {"name": "m"}}


def test_override_of_a_whole_section_and_an_empty_value() -> None:
    mapping = config.apply_overrides({}, ["train={max_steps: 3}", "data.eval_source="])
    assert mapping == {"train": {"max_steps": 3}, "data": {"eval_source": None}}


def test_bad_overrides_are_all_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        config.apply_overrides({}, ["train.epochs", "=3", "a..b=1", "train.x=[1"])
    assert len(caught.value.problems) == 4
    assert "section.setting=value" in str(caught.value)
    assert "--set train.x" in str(caught.value)


def test_an_override_with_an_unknown_name_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr: unknown setting"):
        config.parse("model: m\ndata: d", overrides=["optim.lr=1"])


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: m\r\ndata: d\r\n")
    assert config.load(path, ["train.seed=1"]).train.seed == 1


def test_load_of_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no config file"):
        config.load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        config.load(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"model: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 text: byte 10 is 0xe9"):
        config.load(latin)
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(latin / "inside")


def test_errors_exit_with_2() -> None:
    assert ConfigError("x").exit_code == 2


def test_importing_config_loads_no_heavy_module() -> None:
    code = (
        "import sys, ftlab.config; "
        "heavy = {'torch', 'transformers', 'numpy', 'datasets', 'textual', 'yaml'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=child.environment(),
    )
    assert done.returncode == 0, done.stderr


def test_run_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        RunConfig().model = None  # type: ignore[assignment,misc]
