"""What a container is given: the folders a config names, a network only where it is needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ftlab.facts import Gpu
from ftlab.launch import docker_spec
from ftlab.launch.docker_spec import Spec
from ftlab.schema import DataSection, LaunchSection, ModelSection, RunConfig


def config(model: str, data: str, **more: Any) -> RunConfig:
    return RunConfig(model=ModelSection(name=model), data=DataSection(source=data, **more))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "m").mkdir()
    for name in ("d.jsonl", "e.jsonl", "t.jinja"):
        (tmp_path / name).touch()
    return tmp_path


def test_named_paths_are_those_that_exist(here: Path) -> None:
    asked = config("m", "d.jsonl", eval_source="e.jsonl:test", chat_template="t.jinja")
    assert docker_spec.named_paths(asked) == tuple(
        here / name for name in ("m", "d.jsonl", "t.jinja", "e.jsonl")
    )
    assert docker_spec.named_paths(config("org/model", "org/data")) == ()


@pytest.mark.parametrize(
    ("model", "data", "evaluation", "mode"),
    [
        ("m", "d.jsonl", None, "none"),
        ("m", "d.jsonl", "e.jsonl", "none"),
        ("m", "d.jsonl", "org/data:test", "bridge"),
        ("org/m", "d.jsonl", None, "bridge"),
        ("m", "org/d", None, "bridge"),
    ],
)
def test_a_network_only_where_it_is_needed(
    here: Path, model: str, data: str, evaluation: str | None, mode: str
) -> None:
    asked = config(model, data, eval_source=evaluation)
    assert docker_spec.network(asked, docker_spec.is_local(asked)) == mode


def test_offline_and_as_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dataclasses.replace(
        config("o/m", "o/d"), launch=LaunchSection("docker", network="host")
    )
    assert docker_spec.network(asked, False) == "host"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert docker_spec.network(config("o/m", "o/d"), False) == "none"


def test_caches(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(here / "hub"))
    monkeypatch.setenv("FTLAB_CACHE", str(here / "own"))
    assert docker_spec.caches(False) == ((), (here / "own",))
    assert docker_spec.caches(True) == ((), (here / "own", here / "hub"))
    assert docker_spec.caches(False) == ((here / "hub",), (here / "own",))


def test_variables_hold_numerics_and_no_secret() -> None:
    base = {"OMP_NUM_THREADS": "2", "HF_TOKEN": "x", "TORCH_API_KEY": "x", "LD_LIBRARY_PATH": "/x",
            "CUDA_VISIBLE_DEVICES": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": "/h"}  # fmt: skip
    made = docker_spec.variables("sha256:1", base, None)
    assert (made["OMP_NUM_THREADS"], made["HF_HUB_OFFLINE"], made["HF_HOME"]) == ("2", "1", "/h")
    assert not {"HF_TOKEN", "TORCH_API_KEY", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"} & set(made)
    assert "HF_TOKEN_PATH" not in made
    assert "HF_TOKEN_PATH" in docker_spec.variables("", base, Path("/s"))


def test_limits() -> None:
    spec = Spec(["x"], shm_size="2GiB", memory="4GiB", write=(Path("/w"),), secret=Path("/s"))
    made = spec.options(user="1:1")
    assert (made["shm_size"], made["mem_limit"], made["memswap_limit"]) == (
        2 << 30,
        4 << 30,
        4 << 30,
    )
    assert made["volumes"] == ["/w:/w:rw", f"/s:{docker_spec.SECRET}:ro"]
    assert "mem_limit" not in Spec(["x"]).options(user="1:1")


def test_no_token_no_file() -> None:
    assert docker_spec.token_file("run", {}) is None
    docker_spec.forget_token("run")


def test_gpus_are_named_by_uuid_where_it_is_known() -> None:
    gpus = (Gpu(0, "a", (9, 0), 1, 1, uuid="GPU-12"), Gpu(1, "b", (9, 0), 1, 1, uuid="34"))
    assert docker_spec.gpu_ids([1, 0, 2], gpus) == ["GPU-34", "GPU-12", "2"]
