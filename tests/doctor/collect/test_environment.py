"""Variables: the allow-list with values, secrets as mere presence, everything else not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import environment


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """An environment with nothing but a home in it."""
    made = {"HOME": str(tmp_path)}
    monkeypatch.setattr(os, "environ", made)
    return made


def _collect() -> dict[str, Any]:
    facts: dict[str, Any] = {}
    environment.collect(facts)
    return facts


def test_values_of_the_allow_list_and_nothing_else(only: dict[str, str]) -> None:
    only |= {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7", "MY_DIARY": "secret", "AWS_REGION": "x", "LD_LIBRARY_PATH": "x" * 9000}  # fmt: skip
    found = _collect()["env"]
    assert set(found) == {"HOME", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "LD_LIBRARY_PATH"}
    assert len(found["LD_LIBRARY_PATH"]) == 4096


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("HF_TOKEN", "hf_abcdefgh1234", "<set>"), ("HF_TOKEN", " ", "<empty>"), ("HF_TOKEN", '"hf_abcdefgh1234"', "<malformed>"),
        ("HF_TOKEN", "hf_abcdefgh1234\n", "<malformed>"), ("HUGGING_FACE_HUB_TOKEN", "x", "<malformed>"), ("WANDB_API_KEY", "0123", "<set>"),
    ],
)  # fmt: skip
def test_a_secret_is_only_a_shape(only: dict[str, str], name: str, value: str, shape: str) -> None:
    only[name] = value
    found = _collect()
    assert found["env"][name] == shape
    assert value.strip() == "" or value.strip() not in json.dumps(found["env"].get(name))


def test_a_name_that_tells_of_a_secret_is_left_out(only: dict[str, str]) -> None:
    only |= {"FTLAB_TOKEN": "a", "HF_HUB_AUTH": "b", "PIP_PASSWORD": "c", "TORCH_API_KEY": "d"}
    assert set(_collect()["env"]) == {"HOME"}


def test_certificates_are_looked_for(only: dict[str, str], tmp_path: Path) -> None:
    only |= {"SSL_CERT_FILE": str(tmp_path / "gone.crt"), "REQUESTS_CA_BUNDLE": str(tmp_path)}
    assert _collect()["files"] == {"$SSL_CERT_FILE": False, "$REQUESTS_CA_BUNDLE": True}


@pytest.mark.parametrize(("content", "shape"), [("hf_abcdefgh1234\n", "well"), ("oops", "malformed")])  # fmt: skip
def test_the_saved_token(only: dict[str, str], tmp_path: Path, content: str, shape: str) -> None:
    assert _collect()["token"] == {}
    token = tmp_path / "token"
    token.write_text(content)
    token.chmod(0o640)
    only["HF_TOKEN_PATH"] = str(token)
    assert _collect()["token"] == {"path": str(token), "shape": shape, "mode": "0o640"}
