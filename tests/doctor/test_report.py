"""The report for an issue: findings, packages, every check, the facts, and what was taken out."""

from __future__ import annotations

import json
import re

import doctor_fixtures as fixtures

from ftlab_doctor import report
from ftlab_doctor.finding import fail, ok, skip
from ftlab_doctor.host import Host

HOST = Host(fixtures.host("ubuntu-t4"))
FOUND = [
    ok("a|b").named("a.one", 1, "host"),
    fail("It is broken", observed="this", expected="that", evidence=[("file", "words")]).named("a.two", 1, "host"),
    skip("no question").named("a.three", 1, "host"),
]  # fmt: skip


def test_what_is_wrong_stands_first() -> None:
    text = report.markdown(HOST, FOUND, {"token": 2, "user": 1})
    assert text.index("**fail** `a.two`: It is broken") < text.index("All checks")
    for words in ("observed: `this`", "expected: `that`", "`file`: `words`", "| torch | 2.4.1 |"):
        assert words in text
    assert text.endswith("Removed before writing: 2 token, 1 user.\n")


def test_a_table_stays_a_table() -> None:
    rows = [r for r in report.markdown(HOST, FOUND, {}).splitlines() if r.startswith("| a.")]
    assert rows == ["| a.one | ok | a/b |", "| a.two | fail | It is broken |", "| a.three | skip | no question |"]  # fmt: skip


def test_the_facts_are_json() -> None:
    text = report.markdown(HOST, FOUND, {})
    block = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert block
    facts = json.loads(block[1])
    assert facts["nvml"]["gpus"][0]["name"] == "Tesla T4"
    assert "packages" not in facts


def test_it_says_when_nothing_was_wrong_and_when_nothing_was_removed() -> None:
    assert "Nothing was found to be wrong." in report.markdown(HOST, FOUND[:1], {})
    assert "nothing was found to remove" in report.markdown(HOST, FOUND, {})
    assert "Not redacted" in report.markdown(HOST, FOUND, None)
