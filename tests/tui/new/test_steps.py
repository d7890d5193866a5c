"""The steps show what they are given."""

from __future__ import annotations

from types import ModuleType

import pytest
from textual.app import App, ComposeResult
from textual.widgets import OptionList, Static

from ftlab import config, plan
from ftlab_tui import theme
from ftlab_tui.new import sources, steps
from ftlab_tui.new.draft import Draft


class Bare(App[None]):
    def __init__(self, step: steps.Step) -> None:
        super().__init__()
        self.step = step
        for item in theme.THEMES:
            self.register_theme(item)
        self.theme = theme.DEFAULT

    def compose(self) -> ComposeResult:
        yield self.step

    def words(self, selector: str) -> str:
        return str(self.query_one(selector, Static).render())


@pytest.fixture
def small() -> sources.LocalModel:
    return sources.LocalModel("org/small", "hub cache", sources.STARTER_SHAPE, True)


async def test_models_that_fit_come_first(core: ModuleType, small: sources.LocalModel) -> None:
    shape = {**sources.STARTER_SHAPE, "num_hidden_layers": 9000}
    huge = sources.LocalModel("org/huge", "hub cache", shape, False)
    step = steps.ModelStep()
    app = Bare(step)
    async with app.run_test(size=(100, 30)):
        step.fill([huge, small], core.fake_facts().machine, "org/huge")
        listed = app.query_one("#model-list", OptionList)
        assert [option.id for option in listed.options] == ["org/small", "org/huge"]
        assert listed.highlighted == 1
        first, second = (str(option.prompt) for option in listed.options)
        assert "✗" in second
        assert "✗" not in first
        assert "to fetch" in second
        step.found([("org/small", "mit"), ("org/new", "gated")])
        assert [option.id for option in listed.options][2:] == ["org/new"]
        step.fill([small], None, "")
        assert "no machine facts yet" in app.words("#model-note")


async def test_the_data_as_it_will_be_trained(core: ModuleType) -> None:
    step = steps.DataStep()
    app = Bare(step)
    async with app.run_test(size=(100, 30)):
        step.fill([("a.jsonl", ""), ("/a/" + "long/" * 40 + "b.jsonl", "bundled")], "none")
        listed = app.query_one("#data-list", OptionList)
        assert listed.highlighted == 0
        assert str(listed.options[1].prompt).startswith("…")
        step.tell(core.fake_facts(data={"samples": ("Q ⟦A⟧", "R ⟦B⟧")}).data, 256)
        assert "trained" in app.words("#data-facts")
        assert "row 2 of 2" in app.words("#data-samples")
        step.tell(None, None)
        assert app.words("#data-facts") == app.words("#data-samples") == ""


async def test_the_review_with_and_without_a_plan(core: ModuleType) -> None:
    made = plan.resolve(config.parse("model: m\ndata: d.jsonl\n"), core.fake_facts())
    draft = Draft()
    draft.take({"model": {"name": "m"}, "data": {"source": "d.jsonl"}}, "standard")
    draft.set("train.epochs", 9)
    step = steps.ReviewStep()
    app = Bare(step)
    async with app.run_test(size=(100, 30)):
        step.tell(None, draft, "choose data first")
        assert app.words("#launch-note") == "choose data first"
        assert app.words("#review-course") == app.words("#review-memory") == "-"
        step.tell(made, draft, "")
        assert "disk" in app.words("#review-course")
        assert "total" in app.words("#review-memory")
        assert "train.epochs" in app.words("#review-difference")
        for name in made.decisions:
            assert name in app.words("#review-decisions")
