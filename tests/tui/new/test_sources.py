"""What New can begin with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab_tui.new import sources


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_models_here_and_in_the_cache() -> None:
    shape = json.dumps(sources.STARTER_SHAPE)
    for folder in ("models/mine", "hub/models--org--name/snapshots/abc"):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.json").write_text(shape)
    found = {model.name: model.place for model in sources.models()}
    assert found["./models/mine"] == "local"
    assert found["org/name"] == "hub cache"
    assert found[str(sources.starter_model())] == "starter"


def test_presets_and_recipes_are_bases() -> None:
    names = [base.name for base in sources.bases()]
    assert names[:3] == ["quick", "standard", "careful"]
    assert "recipe starter" in names


def test_first_rows_of_what_can_be_peeked() -> None:
    Path("a.jsonl").write_text('{"a": 1}\n{"a": 2}\nbroken')
    Path("b.json").write_text('[{"b": 1}, 3]')
    assert sources.first_rows("a.jsonl") == [{"a": 1}, {"a": 2}]
    assert sources.first_rows("b.json") == [{"b": 1}]
    assert sources.first_rows("org/name") == []
    assert sources.data_files() != []


def test_the_bundled_data_is_written() -> None:
    folder = sources.write_starter()
    assert sources.starter_mapping()["data"]["source"] == str(folder / "train.jsonl")
    assert (folder / "train.jsonl").is_file()
