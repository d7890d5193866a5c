"""A finding: made in one call, signed by its check, the same keys in every JSON."""

from __future__ import annotations

import json

from ftlab_doctor.finding import (  # fmt: skip
    NEEDS,
    STATUSES,
    Evidence,
    Finding,
    Fix,
    fail,
    ok,
    skip,
    unknown,
    warn,
)


def test_a_failure_blocks_training_unless_it_says_what() -> None:
    assert fail("x").blocks == ("train",)
    assert fail("x", blocks=("flash",)).blocks == ("flash",)
    assert warn("x").blocks == ()


def test_fixes_and_evidence_take_short_forms() -> None:
    made = warn("x", fix=["a", Fix("b", "root", "host")], evidence=[("file", "value"), Evidence("f", "v")])  # fmt: skip
    assert made.fix == (Fix("a"), Fix("b", "root", "host"))
    assert made.evidence == (Evidence("file", "value"), Evidence("f", "v"))
    assert fail("x", fix="one").fix == fail("x", fix=Fix("one")).fix == (Fix("one"),)


def test_a_check_signs_and_fixes_run_where_the_doctor_ran() -> None:
    made = fail("x", fix=["here", Fix("there", "root", "windows")]).named("a.b", 1.23456, "container")  # fmt: skip
    assert (made.id, made.took_ms) == ("a.b", 1.235)
    assert [fix.where for fix in made.fix] == ["container", "windows"]
    assert Finding("own", "ok", "").named("a.b", 0.0, "host").id == "own"


def test_every_json_has_every_key() -> None:
    made = [ok("fine"), skip("no"), unknown("who knows"), warn("w"), fail("f", fix="x", evidence=[("a", "b")])]  # fmt: skip
    keys = {frozenset(f.to_dict()) for f in made}
    assert keys == {frozenset(Finding._fields)}
    assert {f.status for f in made} < set(STATUSES)
    written = json.loads(json.dumps(made[-1].to_dict()))
    assert written["fix"] == [{"cmd": "x", "needs": "none", "where": ""}]
    assert written["evidence"] == [{"source": "a", "value": "b"}]
    assert written["fix"][0]["needs"] in NEEDS
