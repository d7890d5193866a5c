"""StepRng: a key for every place in a run, and nothing to save."""

from __future__ import annotations

import itertools

from ftlab.models.rng import StepRng


def test_every_part_changes_the_key() -> None:
    places = list(itertools.product((0, 1, 3407), repeat=4))
    keys = {StepRng(seed, step, micro).key(site) for seed, step, micro, site in places}
    assert len(keys) == len(places)


def test_the_key_is_a_constant_of_its_place() -> None:
    assert StepRng(3407, 12, 3).key(40) == StepRng(3407, 12, 3).key(40) < 2**63
