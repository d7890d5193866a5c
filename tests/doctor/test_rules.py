"""Rules: each with source and date, unknown where none is known, and the old ones listed."""

from __future__ import annotations

import time

import pytest

from ftlab_doctor import rules


def test_every_rule_has_a_name_a_source_and_a_date() -> None:
    rows = [rule for table in rules.tables().values() for rule in table]
    assert len(rows) > 50
    assert all(
        rule["id"] and rule["source"] and time.strptime(rule["date"], "%Y-%m-%d") for rule in rows
    )


def test_rules_older_than_a_year_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.main(time.mktime(time.strptime("2027-11-20", "%Y-%m-%d"))) == 0
    assert rules.main(time.mktime(time.strptime("2027-11-30", "%Y-%m-%d"))) == 4
    assert "cuda-12" in capsys.readouterr().out


def test_what_no_rule_knows_is_unknown() -> None:
    assert rules.driver_floor("14.0") is None
    assert rules.torch_arch("9.0", "12.8") is None
    assert rules.family("0xffff") is None
