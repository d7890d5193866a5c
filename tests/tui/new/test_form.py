"""The form: which control a setting has, and what is said about it."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input, Static
from waiting import until

from ftlab.errors import Problem
from ftlab.planning.types import Decision
from ftlab_tui.new import form
from ftlab_tui.new.draft import SETTINGS, Draft
from ftlab_tui.new.form import Field, Form
from ftlab_tui.widgets.choice import Choice


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft()
        self.typed: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        yield Form(self.draft, simple=True)

    def on_field_typed(self, event: Field.Typed) -> None:
        self.typed.append((event.path, event.text))


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_can_be_explained(path: str) -> None:
    text = form.explain(path, None, "").plain
    assert text.startswith(f"{path}  {SETTINGS[path].help}")
    assert "allowed: " in text
    assert "default: " in text
    assert "no effect now: because" in form.explain(path, None, "because").plain
    assert "now: 3, because r" in form.explain(path, Decision(3, "r"), "").plain


def test_words_are_chosen_and_numbers_are_typed() -> None:
    assert form.options(SETTINGS["method.kind"]) == ["sft", "dpo"]
    assert form.options(SETTINGS["train.epochs"]) == []
    assert form.text_of("bare: text") == "bare: text"
    assert form.text_of([1, 2]) == "[1, 2]"


async def test_typing_choosing_judging_and_a_preset() -> None:
    app = Bare()
    async with app.run_test(size=(80, 40)):
        shown = app.query_one(Form)
        epochs = app.query_one("#train__epochs", Field)
        epochs.query_one(Input).value = "2"
        await until(lambda: ("train.epochs", "2") in app.typed)
        kind = app.query_one("#method__kind", Field).query_one(Choice)
        kind.action_step(1)
        await until(lambda: ("method.kind", "dpo") in app.typed)
        kind.action_step(-1)  # the default is not given
        await until(lambda: app.typed[-1] == ("method.kind", ""))

        hidden = next(f for f in shown.query(Field) if f.has_class("-advanced"))
        wrong = {hidden.setting.path: Problem(hidden.setting.path, "is wrong", "do this")}
        shown.judge(wrong, {"train.epochs": "max_steps rules"})
        assert hidden.has_class("-wrong")
        assert not hidden.has_class("-advanced")  # a problem is never hidden
        assert "! is wrong (do this)" in str(hidden.query_one(".problem", Static).render())
        assert epochs.has_class("-silent")
        shown.judge({}, {})
        assert not hidden.has_class("-wrong")

        app.draft.set("train.epochs", 5)
        shown.refill()
        assert epochs.query_one(Input).value == "5"
