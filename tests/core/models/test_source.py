"""Where a model comes from: local folders, the hub's errors explained, safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.models.source import (
    Source,
    fetch_weights,
    quantisation_of,
    read_config,
    resolve,
)


def hub_error(kind: type[Exception]) -> Exception:
    """An error of the hub as it would be raised, without a response of either HTTP library."""
    error = kind.__new__(kind)
    Exception.__init__(error, "the server says so")
    return error


def write(folder: Path, *names: str) -> Source:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("{}", encoding="utf-8")
    return Source("local", folder, "")


def test_local_folder(tmp_path: Path) -> None:
    source = resolve(str(tmp_path))
    assert source == Source(str(tmp_path), tmp_path, "")
    assert source.local


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model").folder == tmp_path / "model"


@pytest.mark.parametrize("name", ["./missing/model", "/missing/model", "a/b/c", "two words"])
def test_names_that_are_neither_are_refused(name: str) -> None:
    with pytest.raises(EnvironmentUnfit, match="is no folder and no hub id"):
        resolve(name)


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_text("x", encoding="utf-8")
    with pytest.raises(EnvironmentUnfit, match="is a file, not a folder"):
        resolve(str(file))


def test_offline_and_not_cached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EnvironmentUnfit, match=r"not in the local cache.*HF_HUB_OFFLINE"):
        resolve("nobody/such-model-anywhere")


@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        (errors.GatedRepoError, EnvironmentUnfit, "is gated.*hf auth login"),
        (errors.RepositoryNotFoundError, EnvironmentUnfit, "does not exist.*hf auth login"),
        (errors.RevisionNotFoundError, EnvironmentUnfit, "no revision 'v9'"),
        (errors.HFValidationError, EnvironmentUnfit, "no folder and no hub id"),
        (errors.LocalEntryNotFoundError, TryLater, "cannot be reached"),
        (errors.HfHubHTTPError, TryLater, "did not serve"),
        (ConnectionError, TryLater, "did not serve"),
    ],
)
def test_errors_of_the_hub_are_explained(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], expected: type[Exception], message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise hub_error(kind)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(expected, match=message):
        resolve("owner/model", "v9")


def test_hub_downloads_small_files_then_exactly_the_shards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit, asked = "c0ffee", []

    def download(name: str, **arguments: Any) -> str:
        asked.append((name, arguments))
        folder = tmp_path / commit
        if "*.json" in arguments["allow_patterns"]:
            folder.mkdir(exist_ok=True)
            index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        else:
            for file in arguments["allow_patterns"]:
                (folder / file).write_text("")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = resolve("owner/model", "main", offline=True)
    assert source == Source("owner/model", tmp_path / commit, commit)
    assert not source.local
    assert fetch_weights(source) == tmp_path / commit
    (_, small), (_, weights) = asked
    assert small["revision"] == "main"
    assert small["local_files_only"] is True
    assert "*.py" not in small["allow_patterns"]
    assert "*.safetensors" in small["ignore_patterns"]
    assert weights["revision"] == commit
    assert weights["allow_patterns"] == ["one.safetensors", "two.safetensors"]


def test_python_files_only_when_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def download(_: str, **arguments: Any) -> str:
        asked.append(arguments["allow_patterns"])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve("owner/model", trust_remote_code=True)
    assert "*.py" in asked[0]


def test_safetensors_are_found(tmp_path: Path) -> None:
    assert fetch_weights(write(tmp_path, "model.safetensors")) == tmp_path


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickles_are_refused_by_name(tmp_path: Path, pickle: str) -> None:
    with pytest.raises(EnvironmentUnfit, match=f"{pickle}.* is never loaded.*safetensors"):
        fetch_weights(write(tmp_path, "config.json", pickle))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = write(tmp_path, "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(EnvironmentUnfit, match=r"has no two\.safetensors"):
        fetch_weights(source)


@pytest.mark.parametrize("text", ["[1]", "{", '{"weight_map": 3}'])
def test_a_broken_index_is_named(tmp_path: Path, text: str) -> None:
    source = write(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(EnvironmentUnfit, match="not an index of weights"):
        fetch_weights(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no config.json"), ("{", "cannot read"), ("[]", "holds list, expected an object")],
)
def test_broken_configs_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(EnvironmentUnfit, match=message):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, ""),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes-int8"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes-nf4"),
        ({"load_in_4bit": True}, "bitsandbytes-fp4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
    ],
)
def test_quantisation_is_recognised(settings: Any, expected: str) -> None:
    assert quantisation_of({"quantization_config": settings}) == expected
