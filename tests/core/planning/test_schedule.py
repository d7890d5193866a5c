"""Schedules as text and back, and what none may ask."""

from __future__ import annotations

import pytest

from ftlab.planning.schedule import (
    ITEMS,
    KEEP_ALL,
    RECOMPUTE_ALL,
    LayerSchedule,
    from_text,
    items_of,
    tile_of,
    to_text,
    uniform,
)


def test_text_is_short_and_comes_back() -> None:
    schedule = (*uniform(3, KEEP_ALL), LayerSchedule(input="offload", mlp="recompute"))
    assert to_text(schedule) == "3*kkkkkkk 1*okkkkrk"
    assert from_text(to_text(schedule)) == schedule
    assert from_text(to_text(uniform(2, RECOMPUTE_ALL))) == uniform(2, RECOMPUTE_ALL)


@pytest.mark.parametrize(
    "text", ["kkkkkkk", "2*kkk", "2*kkkkkkx", "x*kkkkkkk", "2*kkkkkkk/", "2*kkkkkkk/x"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="letters out of k, r, o"):
        from_text(text)


def test_the_input_cannot_be_recomputed() -> None:
    with pytest.raises(ValueError, match="cannot be recomputed"):
        LayerSchedule(input="recompute")


def test_items_follow_the_family() -> None:
    assert items_of(True) == ITEMS
    assert set(ITEMS) - set(items_of(False)) == {"attention_out", "mlp_out"}


def test_the_rows_of_a_tile_are_part_of_the_text() -> None:
    schedule = (LayerSchedule(tile=4096), *uniform(2, LayerSchedule(mlp="recompute", tile=4096)))
    assert to_text(schedule) == "1*kkkkkkk/4096 2*kkkkkrk/4096"
    assert from_text(to_text(schedule)) == schedule
    assert tile_of(schedule) == 4096
    assert tile_of(uniform(2, KEEP_ALL)) == 0
    with pytest.raises(ValueError, match=r"take \[0, 4096\] rows at a time"):
        tile_of((KEEP_ALL, *schedule))
    with pytest.raises(ValueError, match="a tile of -1 rows"):
        LayerSchedule(tile=-1)
