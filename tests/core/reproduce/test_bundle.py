"""Bundles: the same bytes from the same run, whole or absent, and nothing that was changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import pins
from ftlab.errors import ConfigError, EnvironmentUnfit, FtlabError
from ftlab.reproduce import bundle
from ftlab.run import Run

MakeRun = Callable[..., Run]
ADAPTER = "export/adapter/adapter_model.safetensors"


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a")
    first = bundle.write(run, tmp_path / "1.tar")
    for path in run.path.rglob("*"):
        os.utime(path, (1, 1))
    copy = Run(shutil.copytree(run.path, tmp_path / "elsewhere" / "a"))
    status = dataclasses.replace(copy.status(), pid=7, host="other", heartbeat=5.0, boot_id="b")
    copy.write_status(status)
    second = bundle.write(copy, tmp_path / "2.tar")
    assert first.sha256 == second.sha256
    assert first.sha256 == hashlib.sha256((tmp_path / "2.tar").read_bytes()).hexdigest()
    assert first.bytes == (tmp_path / "1.tar").stat().st_size


def test_members_are_sorted_anonymous_and_listed(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a")
    made = bundle.write(run, tmp_path / "1.tar")
    held = members(made.path)
    assert tuple(held) == made.members == (bundle.LIST, *sorted(set(held) - {bundle.LIST}))
    assert {*bundle.REQUIRED, ADAPTER} <= set(held)
    listed = json.loads(held[bundle.LIST])["files"]
    assert [entry["name"] for entry in listed] == list(held)[1:]
    for entry in listed:
        data = held[entry["name"]]
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert json.loads(held["status.json"])["host"] == ""
    with tarfile.open(made.path, "r:") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {
            (0, 0, 0, "", "", 0o644)
        }


def test_weights_can_stay_away(make_run: MakeRun, tmp_path: Path) -> None:
    made = bundle.write(make_run("a"), tmp_path / "1.tar", weights=False)
    assert ADAPTER not in made.members
    assert "export/adapter/adapter_config.json" in made.members
    assert f"{ADAPTER} is left out" in made.lacking


def test_the_lock_is_the_one_of_the_run(
    make_run: MakeRun, make_change: Callable[..., Run], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lock = tmp_path / "some.lock"
    lock.write_text("torch==1\n")
    monkeypatch.setattr(pins, "find", lambda: pins.read(lock))
    sha256 = hashlib.sha256(lock.read_bytes()).hexdigest()
    run = make_change(make_run("a"), "lock.sha256", sha256)
    assert members(bundle.write(run, tmp_path / "1.tar").path)["env.lock"] == b"torch==1\n"
    lock.write_text("torch==2\n")
    made = bundle.write(run, tmp_path / "2.tar")
    assert "env.lock" not in made.members
    assert any("is not that of this machine" in words for words in made.lacking)
    made = bundle.write(make_change(run, "lock.sha256", None), tmp_path / "3.tar")
    assert "the run knew no lock" in made.lacking


def test_a_run_that_is_not_done_is_refused(planned: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is planned"):
        bundle.write(planned, tmp_path / "1.tar")
    assert not (tmp_path / "1.tar").exists()


@pytest.mark.parametrize("name", [ADAPTER, "ledger.bin"])
def test_what_changed_after_the_run_is_refused(
    make_run: MakeRun, tmp_path: Path, name: str
) -> None:
    run = make_run("a")
    data = bytearray((run.path / name).read_bytes())
    data[-1] ^= 1
    (run.path / name).write_bytes(data)
    with pytest.raises(FtlabError, match=f"{name} of run a changed since the run ended"):
        bundle.write(run, tmp_path / "1.tar")


def test_a_missing_output_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a")
    (run.path / ADAPTER).unlink()
    with pytest.raises(FtlabError, match=r"adapter_model\.safetensors is gone"):
        bundle.write(run, tmp_path / "1.tar")


def test_only_a_bundle_is_replaced(make_run: MakeRun, tmp_path: Path) -> None:
    run, target = make_run("a"), tmp_path / "thesis.tex"
    target.write_text("years")
    with pytest.raises(ConfigError, match="exists and is no bundle"):
        bundle.write(run, target)
    assert target.read_text() == "years"
    first = bundle.write(run, tmp_path / "1.tar")
    assert bundle.write(run, tmp_path / "1.tar") == first


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_cut_off_it_leaves_what_was_there(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    run, folder = make_run("a"), tmp_path / "out"
    folder.mkdir()
    made = bundle.write(run, folder / "1.tar")
    real = bundle._add

    def add(tar: tarfile.TarFile, name: str, *rest: object) -> None:
        if name == "manifest.json":
            raise fault
        real(tar, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle, "_add", add)
    expected = EnvironmentUnfit if isinstance(fault, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        bundle.write(run, folder / "1.tar")
    assert os.listdir(folder) == ["1.tar"]
    assert hashlib.sha256(made.path.read_bytes()).hexdigest() == made.sha256


def test_a_file_that_changes_meanwhile_is_noticed(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("a")
    real = bundle._entry
    for change in (b"other\n", b"longer than before by much " * 99, b""):
        before = run.config_path.read_bytes()

        def entry(source: bundle.Source, change: bytes = change) -> dict[str, object]:
            found = real(source)
            if source == run.config_path:
                run.config_path.write_bytes(change)
            return found

        monkeypatch.setattr(bundle, "_entry", entry)
        with pytest.raises(FtlabError, match=r"config\.yaml changed while it was bundled"):
            bundle.write(run, tmp_path / "1.tar")
        run.config_path.write_bytes(before)
    assert not list(tmp_path.glob(".1.tar.*"))


def test_what_a_killed_writer_left_goes_after_an_hour(make_run: MakeRun, tmp_path: Path) -> None:
    old, young = tmp_path / ".1.tar.17.tmp", tmp_path / ".1.tar.18.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    bundle.write(make_run("a"), tmp_path / "1.tar")
    assert (old.exists(), young.exists()) == (False, True)
