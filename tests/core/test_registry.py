"""Runs are made whole, under names of their own, and found by what people type."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import atomic, registry
from ftlab.errors import ConfigError, EnvironmentUnfit, FtlabError
from ftlab.plan import Plan
from ftlab.run import Run

MakePlan = Callable[..., Plan]


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
        ("meta-llama/Llama-3.2-1B", "llama-3.2-1b"),
        ("/data/my models/Ünï code!", "n-code"),
        ("google/gemma-3-1b-it", "gemma-3-1b"),
        ("instruct", "instruct"),
        ("日本", "model"),
        ("x" * 80, "x" * 24),
    ],
)
def test_ids_are_short_and_readable(model: str, short: str) -> None:
    when = time.mktime((2026, 11, 24, 7, 3, 0, 0, 0, -1))
    name = registry.make_id("sft", model, when)
    assert name.startswith(f"sft-{short}-1124-0703-")
    assert len(name.rpartition("-")[2]) == 4


def test_two_runs_of_the_same_second(
    runs_root: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffixes = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(registry, "make_id", lambda *_: f"sft-m-1124-0703-{next(suffixes)}")
    first, second = (Run.create(make_plan(), runs_root).id for _ in range(2))
    assert (first, second) == ("sft-m-1124-0703-aaaa", "sft-m-1124-0703-bbbb")


def test_many_launchers_of_one_name(runs_root: Path, make_plan: MakePlan) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            outcomes.append(Run.create(make_plan(), runs_root, "mine").id)
        except ConfigError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("mine") == 1
    assert sum("exists in" in outcome for outcome in outcomes) == 5
    assert os.listdir(runs_root) == ["mine"]


def test_config_text_is_kept_or_made(runs_root: Path, make_plan: MakePlan) -> None:
    import yaml

    kept = Run.create(make_plan(), runs_root, config_text="model: x  # mine\n")
    assert kept.config_path.read_text() == "model: x  # mine\n"
    made = Run.create(make_plan(), runs_root).config_path.read_text()
    values = yaml.safe_load(made)
    assert values["train"]["max_steps"] == 50
    assert values["model"]["revision"] is None
    assert values["launch"]["devices"] == []


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "a b", "x" * 101, "a\n"])
def test_bad_names_are_refused(runs_root: Path, make_plan: MakePlan, name: str) -> None:
    with pytest.raises(ConfigError, match="must be letters"):
        Run.create(make_plan(), runs_root, name)
    assert not runs_root.exists()


def test_a_full_disk_leaves_nothing(
    runs_root: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        Run.create(make_plan(), runs_root)
    assert os.listdir(runs_root) == []


def test_unusable_roots_are_one_clear_error(
    tmp_path: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfit, match="is a file"):
        Run.create(make_plan(), tmp_path / "file" / "runs")
    with pytest.raises(EnvironmentUnfit, match="is a file"):
        Run.create(make_plan(), tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(EnvironmentUnfit, match="not permitted"):
            registry.check(tmp_path / "runs" / "deep", None)

    def read_only(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(EnvironmentUnfit, match="read-only"):
        Run.create(make_plan(), tmp_path / "runs")


def test_a_run_is_never_seen_half_made(runs_root: Path, make_plan: MakePlan) -> None:
    seen: list[bool] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for name in os.listdir(runs_root) if runs_root.exists() else []:
                if not name.startswith("."):
                    folder = runs_root / name
                    seen.append((folder / "status.json").exists() and (folder / "export").exists())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(10):
        Run.create(make_plan(), runs_root)
    stop.set()
    watcher.join()
    assert seen
    assert all(seen)


def test_what_a_killed_launcher_left_is_swept_later(runs_root: Path, make_plan: MakePlan) -> None:
    old, young = runs_root / ".new-1-dead", runs_root / ".new-2-busy"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    Run.create(make_plan(), runs_root)
    assert (old.exists(), young.exists()) == (False, True)
    assert len(Run.all(runs_root)) == 1


def test_find(runs_root: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["sft-a-1124-0703-aaaa", "sft-b-1124-0704-bbbb", "dpo-a-1124-0705-cccc"]
    for name in names:
        Run.create(make_plan(), runs_root, name)
    assert Run.find(names[0], runs_root).id == names[0]
    assert Run.find(runs_root / names[1]).id == names[1]
    assert Run.find("dpo", runs_root).id == names[2]
    assert Run.find("bbbb", runs_root).id == names[1]
    assert Run.find("last", runs_root).id == names[2]
    monkeypatch.chdir(runs_root / names[0])
    assert Run.find(os.path.join("..", names[1])).id == names[1]
    with pytest.raises(ConfigError, match=r"fits several runs .*sft-a.*sft-b"):
        Run.find("sft", runs_root)
    with pytest.raises(ConfigError, match="the nearest is dpo-a-1124-0705-cccc"):
        Run.find("dpo-a-1124-0705-cccx", runs_root)
    for nothing in ("zzzz", "", ".", ".."):
        with pytest.raises(ConfigError, match="no run"):
            Run.find(nothing, runs_root)


def test_listing_takes_complete_runs_only(runs_root: Path, make_plan: MakePlan) -> None:
    assert Run.all(runs_root) == []
    first, second = (Run.create(make_plan(), runs_root) for _ in range(2))
    second.write_status(type(second.status())(created=1.0))
    (runs_root / "notes").mkdir()
    (runs_root / "README").write_text("")
    assert [run.id for run in Run.all(runs_root)] == [second.id, first.id]
    assert Run.all(runs_root / "README") == []


def test_listing_an_unreadable_root_is_said(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(EnvironmentUnfit, match="not permitted"):
        Run.all(runs_root)


def test_no_free_name_and_a_failed_rename_are_said(
    runs_root: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "make_id", lambda *_: "always")
    Run.create(make_plan(), runs_root)
    with pytest.raises(FtlabError, match="no free run name"):
        Run.create(make_plan(), runs_root)

    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(EnvironmentUnfit, match="read-only"):
        Run.create(make_plan(), runs_root, "other")
    assert sorted(os.listdir(runs_root)) == ["always"]


def test_light_modules_load_nothing_heavy() -> None:
    code = (
        "import sys, ftlab.run, ftlab.registry, ftlab.events, ftlab.control, ftlab.ledger,"
        "ftlab.atomic, ftlab.lock, ftlab.process, ftlab.launch.local;"
        "print(sorted({'torch','numpy','yaml','transformers','datasets','textual'}"
        " & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert atomic.plain({"a": (1,)}) == {"a": [1]}
