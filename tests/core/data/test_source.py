"""Sources are found, identified by their bytes, or refused with what is there instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.data.source import base_splits, check_split, eval_split, locate, split_names
from ftlab.errors import DataError, EnvironmentUnfit

Write = Callable[..., Path]
ROWS = [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "json"),
        ("a.json", "json"),
        ("a.JSONL", "json"),
        ("a.jsonl.gz", "json"),
        ("a.csv", "csv"),
        ("a.tsv", "csv"),
        ("a.parquet", "parquet"),
        ("a.txt", "text"),
        ("a.b.txt.gz", "text"),
    ],
)
def test_kinds_of_files(write_rows: Write, name: str, kind: str) -> None:
    found = locate(str(write_rows(name, ROWS)))
    assert (found.kind, found.split, len(found.files)) == (kind, "train", 1)


def test_identity_is_of_the_bytes_not_of_the_path(write_rows: Write) -> None:
    one = locate(str(write_rows("one.jsonl", ROWS)))
    same = locate(str(write_rows("elsewhere/other.jsonl", ROWS)))
    changed = locate(str(write_rows("one.jsonl", [*ROWS, {"text": "c"}])))
    assert one.identity == same.identity != changed.identity


def test_a_missing_file_names_the_nearest(write_rows: Write, tmp_path: Path) -> None:
    write_rows("training.jsonl", ROWS)
    with pytest.raises(DataError) as caught:
        locate(str(tmp_path / "trainning.jsonl"))
    assert "data.source: there is no file or folder" in str(caught.value)
    assert f"did you mean {tmp_path / 'training.jsonl'}" in str(caught.value)
    with pytest.raises(DataError, match="there is no file"):
        locate(str(tmp_path / "nowhere" / "x.jsonl"))
    with pytest.raises(DataError, match=r"data.eval_source: there is no file"):
        locate(str(tmp_path / "x.csv"), setting="data.eval_source")


def test_empty_unknown_and_dangerous_files(tmp_path: Path) -> None:
    for name, message in {
        "a.jsonl": "a.jsonl is empty",
        "a.pkl": "pickle can run code and is never loaded",
        "a.pt": "pickle can run code",
        "a.py": "data set scripts are never run",
        "a.docx": "unknown kind '.docx'; expected JSONL, JSON, CSV",
        "noextension": "unknown kind 'without extension'",
        "a.parquet.gz": "unknown kind '.parquet'",
    }.items():
        (tmp_path / name).write_bytes(b"" if name == "a.jsonl" else b"x")
        with pytest.raises(DataError, match=message):
            locate(str(tmp_path / name))


def test_patterns(write_rows: Write, tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        write_rows(name, ROWS)
    found = locate(str(tmp_path / "*.jsonl"))
    assert [file.name for file in found.files] == ["a.jsonl", "b.jsonl"]
    with pytest.raises(DataError, match=r"one kind; found a.jsonl \(json\), c.txt \(text\)"):
        locate(str(tmp_path / "*"))


def test_folders_have_splits_by_name(write_rows: Write, tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl", "extra.jsonl", ".hidden.jsonl"):
        write_rows(name, ROWS)
    write_rows("val/part.jsonl", ROWS)
    (tmp_path / "README.md").write_text("about")
    assert split_names(str(tmp_path)) == ["train", "validation", "test"]
    names = [file.name for file in locate(str(tmp_path)).files]
    assert names == ["extra.jsonl", "train-0.jsonl", "train-1.jsonl"]
    assert [f.name for f in locate(str(tmp_path), split="validation[:1]").files] == ["part.jsonl"]
    with pytest.raises(DataError, match="one split at a time"):
        locate(str(tmp_path), split="train+test")


def test_folders_without_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("about")
    with pytest.raises(DataError, match=r"has no data files; expected .*save_to_disk"):
        locate(str(tmp_path))


def test_unknown_splits_list_those_there_are(write_rows: Write, tmp_path: Path) -> None:
    path = write_rows("test.jsonl", ROWS)
    with pytest.raises(DataError, match=r"has no split 'test'; it has train .set data.split to"):
        locate(str(path), split="test")
    write_rows("train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"it has train, test \(did you mean test\)"):
        locate(str(tmp_path), split="tests")
    with pytest.raises(DataError, match=r"data.split: got 'train\[', expected a split such as"):
        locate(str(path), split="train[")


def test_split_expressions() -> None:
    assert base_splits("train") == ["train"]
    assert base_splits("train[:10%] + test[5:]") == ["train", "test"]
    assert base_splits("train_sft") == ["train_sft"]
    check_split("a[:1]", ["a"], "x")


def test_a_subset_of_a_file_is_refused(write_rows: Write) -> None:
    with pytest.raises(DataError, match=r"data.subset 'main' is for hub data sets"):
        locate(str(write_rows("a.jsonl", ROWS)), subset="main")


def test_saved_data_sets(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS)}
    ).save_to_disk(str(tmp_path / "two"))
    one = locate(str(tmp_path / "one"), split="train[:1]")
    assert (one.kind, one.folder) == ("saved", tmp_path / "one")
    assert split_names(str(tmp_path / "two")) == ["train", "test"]
    with pytest.raises(DataError, match="it has train, test"):
        locate(str(tmp_path / "two"), split="dev")
    (tmp_path / "two" / "dataset_dict.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_dict.json is damaged"):
        locate(str(tmp_path / "two"))


def test_a_folder_with_a_data_card(write_rows: Write, tmp_path: Path) -> None:
    write_rows("cfg/one.jsonl", ROWS)
    card = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n"
    (tmp_path / "README.md").write_text(card + "    path: cfg/*.jsonl\n---\n")
    found = locate(str(tmp_path), subset="main")
    assert (found.kind, found.revision) == ("builder", "")
    first = found.identity
    write_rows("cfg/one.jsonl", ROWS[:1])
    assert locate(str(tmp_path), subset="main").identity != first
    with pytest.raises(DataError, match=r"data.subset: .* has no 'other'; it has main"):
        locate(str(tmp_path), subset="other")


def test_evaluation_splits(write_rows: Write, tmp_path: Path) -> None:
    path = str(write_rows("data/train.jsonl", ROWS))
    folder = str(tmp_path / "data")
    assert eval_split(path, subset=None, split="train") == (path, "train")
    assert eval_split(path, subset=None, split="train[:5]") == (path, "train[:5]")
    write_rows("data/test.jsonl", ROWS)
    assert eval_split(folder, subset=None, split="train") == (folder, "test")
    write_rows("data/dev.jsonl", ROWS)
    assert eval_split(folder, subset=None, split="train") == (folder, "validation")
    assert eval_split(f"{folder}:test", subset=None, split="train") == (folder, "test")
    assert eval_split("org/name:test[:9]", subset=None, split="train") == ("org/name", "test[:9]")


def test_hub_ids_are_not_looked_up_offline(
    write_rows: Write, monkeypatch: Any, tmp_path: Path
) -> None:
    write_rows("mydata.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentUnfit) as caught:
        locate("mydata")
    assert "HF_HUB_OFFLINE forbids" in str(caught.value)
    assert "did you mean mydata.jsonl" in str(caught.value)


def test_an_unreadable_file_is_said(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows("a.jsonl", ROWS)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(DataError, match=r"data.source: .*a.jsonl cannot be read: Permission"):
        locate(str(path))
