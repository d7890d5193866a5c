"""Padded lengths: few, never shorter, and at most a sixteenth of them padding."""

from __future__ import annotations

from ftlab.planning.shapes import LEAST, padded_rows, padded_tokens


def test_lengths_are_few_and_close() -> None:
    found = {tokens: padded_tokens(tokens) for tokens in range(1, 9000)}
    assert all(padded >= tokens for tokens, padded in found.items())
    assert all(padded % LEAST == 0 for padded in found.values())
    assert all(p - t < max(LEAST, p / 8 + 1) for t, p in found.items())
    assert all(padded_tokens(padded) == padded for padded in set(found.values()))
    between = {padded for tokens, padded in found.items() if 2048 < tokens <= 4096}
    assert len(between) == 8
    assert padded_tokens(4096) == 4096


def test_rows_for_the_head_are_a_part_of_the_tokens() -> None:
    for whole in (64, 128, 4096, 4608):
        found = [padded_rows(rows, whole) for rows in range(whole + 1)]
        assert all(rows <= padded <= whole for rows, padded in enumerate(found))
        assert found == sorted(found)
        assert len(set(found)) <= 4
    assert padded_rows(0, 4096) == 1024, "a batch without labels keeps the head's launches"
