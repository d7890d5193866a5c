"""safetensors headers, sound and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.probing import headers


def write(path: Path, header: Any, payload: int) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(payload))
    return path


def tensor(dtype: str, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "data_offsets": [begin, end]}


def test_dtypes_and_sizes(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": tensor("BF16", 0, 8),
        "b": tensor("F32", 8, 12),
    }
    found = headers.read_header(write(tmp_path / "x", header, 12))
    assert set(found) == {"a", "b"}
    assert headers.summary([found]) == ("bf16", 12)
    assert headers.summary([]) == ("", 0)
    assert headers.summary([{"q": tensor("F8_E4M3", 0, 4)}]) == ("f8_e4m3", 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not fit"),
        (b"\x80\x04pickle stuff here", "does not fit"),
        ((5).to_bytes(8, "little") + b"{bad}", "not readable"),
        ((2).to_bytes(8, "little") + b"[]", "not readable"),
        ((11).to_bytes(8, "little") + b'{"a": true}', "not readable"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(EnvironmentUnfit, match=words):
        headers.read_header(path)


def test_a_truncated_file_says_both_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"a": tensor("F32", 0, 4000)}, 3999)
    with pytest.raises(EnvironmentUnfit, match=r"its header promises .*; fetch it again"):
        headers.read_header(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FtlabError):
        headers.read_header(tmp_path / "none")
