"""Ids of keys and a person's keys file."""

from __future__ import annotations

from pathlib import Path

from ftlab_tui import keys


def test_every_key_has_an_id() -> None:
    assert len(keys.ids()) == len(keys.GLOBAL) == len(set(keys.ids()))


def test_a_keys_file_remaps(tmp_path: Path) -> None:
    assert keys.keymap(tmp_path) == ({}, "")
    (tmp_path / "keys.json").write_text('{"back": "escape,h", "bakc": "x"}')
    known, wrong = keys.keymap(tmp_path)
    assert known == {"back": "escape,h"}
    assert "bakc" in wrong
    (tmp_path / "keys.json").write_text("[")
    assert "cannot be read" in keys.keymap(tmp_path)[1]
