"""lora_layout: columns of the targets, their alignment, and what is refused."""

from __future__ import annotations

import pytest

from ftlab_kernels.lora_layout import PAD, UNIT, columns, padded


def test_targets_stand_side_by_side_from_multiples_of_16() -> None:
    layout = columns((8, 0, 20), (0.1, 0.5, 0.0), bias=True)
    assert layout.firsts == (0, 16, 16)
    assert layout.lasts == (16, 16, 48)
    assert layout.drops == (0.1, 0.0, 0.0)  # a target without adapter drops nothing
    assert (layout.width, layout.ones, layout.pad) == (48, 48, 64)
    assert layout.of(2) == slice(16, 36)
    assert layout.drops_any


@pytest.mark.parametrize("ranks", [(1,), (16, 16), (64, 64, 64), (5, 100)])
@pytest.mark.parametrize("bias", [False, True])
def test_room_is_aligned_and_enough(ranks: tuple[int, ...], bias: bool) -> None:
    layout = columns(ranks, (0.0,) * len(ranks), bias)
    assert layout.pad % PAD == layout.width % UNIT == 0
    assert layout.width + bias <= layout.pad < layout.width + bias + PAD
    assert (layout.ones >= 0) == bias
    assert not layout.drops_any


def test_nothing_needs_no_room() -> None:
    assert columns((0,), (0.0,), False).pad == 0


@pytest.mark.parametrize(
    ("ranks", "drops"), [((1,) * 4, (0.0,) * 4), ((-1,), (0.0,)), ((4,), (1.0,)), ((), ())]
)
def test_impossible_groups_are_refused(ranks: tuple[int, ...], drops: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        columns(ranks, drops, False)


def test_arguments_are_filled_to_three() -> None:
    assert padded([1, 2]) == [1, 2, 0]
    assert padded([0.5], 1.0) == [0.5, 1.0, 1.0]
