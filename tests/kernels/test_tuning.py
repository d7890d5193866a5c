"""The tables of block sizes: every one is complete, and a lookup is what the text says."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels import tuning


def test_the_order_of_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "h_64": {"80": {"B": 1}, "90": {"B": 2}},
        "*": {"75": {"B": 3}, "*": {"B": 4}},
        "h_32": {"70": {"B": 6}, "80": {"B": 7}, "86": {"B": 8}, "90": {"B": 9}, "*": {"B": 4}},
    }
    monkeypatch.setattr(tuning, "table", lambda op: entries)
    tuning._lookup.cache_clear()
    try:
        assert tuning.lookup("op", "h_64", 90)["B"] == 2
        assert tuning.lookup("op", "h_64", 89)["B"] == 1
        with pytest.raises(KeyError, match="nothing for capability 75"):
            tuning.lookup("op", "h_64", 75)
        assert tuning.lookup("op", "h_128", 75)["B"] == 3
        assert tuning.lookup("op", "h_128", 80)["B"] == 4  # 7.5 is another family
        nearest = {0: 4, 70: 6, 75: 6, 80: 7, 86: 8, 89: 8, 90: 9, 100: 9, 120: 8}
        assert {c: tuning.lookup("op", "h_32", c)["B"] for c in nearest} == nearest
        assert tuning.lookup("op", "h_128", 0)["B"] == 4
        with tuning.override("op", {"B": 5}):
            assert tuning.lookup("op", "h_64", 90)["B"] == 5
        assert tuning.lookup("op", "h_64", 90)["B"] == 2
    finally:
        tuning._lookup.cache_clear()


def test_shape_classes() -> None:
    assert tuning.pow2_class("h", 3000) == "h_4096"
    assert tuning.pow2_class("h", 4096) == "h_4096"
    assert tuning.pow2_class("h", 1) == "h_1"
    assert tuning.pow2_class("h", 3, low=64) == "h_64"
    assert tuning.pow2_class("h", 1 << 30, high=1 << 16) == "h_65536"


def test_the_cpu_has_capability_0() -> None:
    assert tuning.capability(torch.zeros(1)) == 0


def test_a_missing_table_names_those_that_exist() -> None:
    with pytest.raises(KeyError, match=r"no tuning table missing\.json"):
        tuning.table("missing")


@pytest.mark.parametrize("op", tuning.tables())
def test_every_table_answers_every_device(op: str) -> None:
    table = tuning.table(op)
    assert "*" in table["*"]
    for shape_class in table:
        for capability in (0, 70, 75, 80, 86, 89, 90, 100, 120):
            config = tuning.lookup(op, shape_class, capability)
            assert config
            assert all(isinstance(value, int | bool | str) for value in config.values())
