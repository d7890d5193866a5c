"""The lock of an environment is found, and what differs from it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab import pins

TEXT = "Torch==2.4.1 \\\n    --hash=sha256:ab\nnumpy==1.26.4 ; python_version > '3'\n# a==1\n"


@pytest.fixture
def lock(tmp_path: Path) -> pins.Lock:
    path = tmp_path / "env.lock"
    path.write_text(TEXT)
    found = pins.read(path, "made here")
    assert found is not None
    return found


def test_pins_are_read(lock: pins.Lock) -> None:
    assert lock.pins == {"torch": "2.4.1", "numpy": "1.26.4"}
    assert len(lock.sha256) == 64
    assert lock.found == "made here"
    assert pins.read(lock.path / "none") is None


def test_no_drift_when_all_is_as_locked(lock: pins.Lock) -> None:
    assert pins.drift(lock, {**lock.pins, "ftlab": "0.1"}) == pins.Drift({}, {})


def test_drift_names_other_missing_and_extra(lock: pins.Lock) -> None:
    drift = pins.drift(lock, {"torch": "2.5.0", "pytest": "9"})
    assert drift.changed == {
        "torch": "locked 2.4.1, installed 2.5.0", "numpy": "locked 1.26.4, missing",
    }  # fmt: skip
    assert drift.extra == {"pytest": "9"}


def test_the_lock_that_is_named_wins(lock: pins.Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_LOCK", str(lock.path))
    found = pins.find()
    assert found is not None
    assert (found.path, found.found) == (lock.path, "FTLAB_LOCK")


@pytest.mark.parametrize(
    ("torch", "name"), [("2.4.1", "env.lock"), ("2.10.0", "env-cu128.lock"), (None, "env.lock")]
)
def test_a_checkout_has_the_lock_whose_torch_is_installed(
    torch: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FTLAB_LOCK", raising=False)
    monkeypatch.setattr(pins, "_installed", lambda: {"torch": torch} if torch else {})
    found = pins.find()
    assert found is not None
    assert found.path.name == name
    assert found.found == f"{name} of this checkout"


def test_without_a_checkout_no_lock_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FTLAB_LOCK", raising=False)
    monkeypatch.setattr(pins, "__file__", str(tmp_path / "a/b/pins.py"))
    assert pins.find() is None


def test_what_is_installed_here_is_found(lock: pins.Lock) -> None:
    assert "pytest" in pins.drift(lock).extra
