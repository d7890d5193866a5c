"""Fields, outputs and curves of two runs are compared without a judgement."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from ftlab.errors import ConfigError
from ftlab.reproduce import compare
from ftlab.run import Run

Finish = Callable[..., Run]


def field(value: object, kind: str) -> dict[str, object]:
    return {"value": value, "class": kind}


def test_fields_are_sorted_by_what_they_can_do() -> None:
    a = {
        "same": field(1, "numerics"), "note": field(1, "none"), "driver": field("550", "bits"),
        "data": field("d", "numerics"), "old": field(1, "bits"),
        "environment.OMP_NUM_THREADS": field("1", "bits"),
    }  # fmt: skip
    b = {
        "same": field(1, "numerics"), "note": field(2, "none"), "driver": field("560", "bits"),
        "data": field("e", "numerics"), "new": field(1, "numerics"),
    }  # fmt: skip
    found = compare.fields(a, b)
    assert [(d.name, d.kind) for d in found] == [
        ("data", "numerics"), ("driver", "bits"), ("environment.OMP_NUM_THREADS", "bits"),
        ("note", "none"), ("old", "unrecorded"), ("new", "unrecorded"),
    ]  # fmt: skip
    assert (found[2].a, found[2].b) == ("1", None)
    assert compare.fields(a, a) == ()


def test_the_stronger_class_counts() -> None:
    (found,) = compare.fields({"x": field(1, "bits")}, {"x": field(2, "numerics")})
    assert found.kind == "numerics"
    (found,) = compare.fields({"x": {"value": 1}}, {"x": {"value": 2, "class": "odd"}})
    assert found.kind in ("none", "odd")


def test_only_runs_that_are_done_are_compared(planned: Run, make_run: Finish) -> None:
    with pytest.raises(ConfigError, match=r"is planned; only runs that are done"):
        compare.sealed(planned)
    done = make_run("a")
    assert compare.sealed(done)["run"] == "a"
    done.manifest_path.write_text("{}")
    with pytest.raises(ConfigError, match="no manifest that can be read"):
        compare.sealed(done)


def test_equal_outputs_but_for_the_place_of_the_model(make_run: Finish) -> None:
    assert compare.outputs(make_run("a"), make_run("b")) == ()


def test_other_weights_are_named(make_run: Finish) -> None:
    (found,) = compare.outputs(make_run("a"), make_run("b", weights=b"x"))
    assert found.name == "export/adapter/adapter_model.safetensors"
    assert found.a != found.b


def test_a_file_that_was_changed_later_is_judged_by_its_seal(make_run: Finish) -> None:
    a, b = make_run("a"), make_run("b")
    (b.export_dir / "adapter" / "adapter_config.json").write_text("{}")
    (found,) = compare.outputs(a, b)
    assert found.name == "export/adapter/adapter_config.json"


def test_a_list_and_damage_are_no_equals(make_run: Finish) -> None:
    a, b = make_run("a"), make_run("b")
    for run, text in ((a, "[1]"), (b, "[2]")):
        (run.export_dir / "adapter" / "adapter_config.json").write_text(text)
    assert len(compare.outputs(a, b)) == 1
    assert compare._without_places(a, "nothing.json", "0") is None


def test_curves_are_laid_over_each_other(make_run: Finish) -> None:
    a, b = make_run("a"), make_run("b", losses={3: 0.5, 4: 0.2})
    found = compare.curve(a.ledger_path, b.ledger_path)
    assert (found.steps, found.at) == (5, 3)
    assert found.largest == pytest.approx(0.5 - 1 / 3)
    assert compare.curve(a.ledger_path, a.ledger_path).at == 0


def test_a_curve_with_nan(make_run: Finish) -> None:
    a, b = make_run("a"), make_run("b", losses={2: math.nan})
    found = compare.curve(a.ledger_path, b.ledger_path)
    assert (found.largest, found.at) == (math.inf, 2)
    assert compare.curve(b.ledger_path, b.ledger_path).largest == 0
