"""Texts of New."""

from __future__ import annotations

from types import ModuleType

from ftlab import config, plan
from ftlab_tui.new import show

TONES = dict.fromkeys(
    ("primary", "secondary", "accent", "success", "warning", "error", "foreground"), "red"
)


def test_trained_text_is_coloured() -> None:
    text = show.marked("question ⟦answer⟧", TONES)
    spans = [text.plain[span.start : span.end] for span in text.spans if "bold" in str(span.style)]
    assert "".join(spans) == "⟦answer⟧"


def test_data_says_what_is_cut(core: ModuleType) -> None:
    facts = core.fake_facts().data
    text = show.data(facts, 256, TONES, 60).plain
    assert "200 rows (16.7 %) are longer than 256" in text
    assert "over" in text
    assert "80,000 trained" in text


def test_the_bar_is_as_wide_as_it_may_be(core: ModuleType) -> None:
    made = plan.resolve(config.parse("model: m\ndata: d.jsonl\n"), core.fake_facts())
    for width in (40, 60, 100):
        assert show.memory_bar(made, width, TONES).cell_len == width
    assert "total" in show.memory_terms(made, TONES).plain
    assert dict(show.course(made))["runs on"].startswith("local")
