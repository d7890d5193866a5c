"""Fields that differ."""

from __future__ import annotations

import json

from ftlab_tui.runs.comparing import differences, short


def test_plans_and_manifests(make_run) -> None:  # type: ignore[no-untyped-def]
    first, second = make_run("a"), make_run("b", total=300)
    assert [d.name for d in differences([first, second])] == ["config.train.max_steps"]
    assert differences([first, first]) == []
    for run, torch, lr in ((first, "2.4", 1), (second, "2.10", 1)):
        identity = {"version.torch": {"value": torch, "class": "bits"},
                    "platform": {"value": torch, "class": "none"},
                    "lr": {"value": lr, "class": "numerics"}}  # fmt: skip
        run.manifest_path.write_text(json.dumps({"identity": identity}))
    found = differences([first, second])
    assert [(d.name, d.kind) for d in found] == [("version.torch", "bits"), ("platform", "none")]
    assert found[0].values == ("2.4", "2.10")


def test_short() -> None:
    assert [short(v) for v in (None, [1, 2], "x" * 40)] == ["-", "1, 2", "x" * 27 + "…"]
