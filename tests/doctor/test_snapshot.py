"""Snapshots that others write: read, or refused with what is wrong in them."""

from __future__ import annotations

import json

import doctor_fixtures as fixtures
import pytest

from ftlab_doctor import snapshot

LEAST = {"format": snapshot.FORMAT, "version": snapshot.VERSION}


def test_what_is_written_is_read_again() -> None:
    facts = fixtures.host("h100")
    assert snapshot.read(snapshot.write(facts)) == facts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rubbish", "not JSON"),
        ("[]", "not a snapshot"),
        ("{}", "not a snapshot"),
        (json.dumps({**LEAST, "version": 99}), "version 99 is not understood"),
        (json.dumps({**LEAST, "packages": {}}), "/packages: dict instead of array"),
        (json.dumps({**LEAST, "packages": [{"name": 3}]}), "/packages/0/name: int instead of string"),
        (json.dumps({**LEAST, "system": {"uid": True}}), "/system/uid: bool instead of integer"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(snapshot.BadSnapshot) as caught:
        snapshot.read(text)
    assert words in str(caught.value)


def test_every_part_of_a_real_snapshot_is_in_the_schema() -> None:
    known = set(snapshot.schema()["properties"])
    for name in fixtures.hosts():
        assert set(fixtures.host(name)) <= known, name
