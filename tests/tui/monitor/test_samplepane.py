"""What the model answered, before and now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App, ComposeResult
from textual.widgets import Static

from ftlab.run import Run
from ftlab_tui.monitor.samplepane import SamplePane
from ftlab_tui.reading.live import LiveRun


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield SamplePane()


def read(run: Run) -> LiveRun:
    live = LiveRun(run)
    live.look()
    while live.poll():
        pass
    return live


async def test_before_and_now_side_by_side(make_run: Callable[..., Run]) -> None:
    live = read(make_run("r", 60))
    app = Bare()
    async with app.run_test(size=(60, 20)):
        pane = app.query_one(SamplePane)
        pane.update(live)
        assert pane.text == (
            "prompt What is 2+2?\nbefore (step 20) Answer 20\nnow (step 60) Answer 60\nhoped for 4"
        )
        assert str(pane.border_title) == "samples 1/1"
        assert str(pane.border_subtitle) == "step 20 → 60"
        shown = pane.query_one(Static)
        assert "Answer 60" in str(shown.render())


async def test_prompts_go_round(make_run: Any) -> None:
    run = make_run("r", 20)
    more = {
        "v": 1,
        "t": 1.7e9 + 21,
        "kind": "sample",
        "step": 20,
        "prompt": "[bold]Why?",
        "text": "",
    }
    make_run.append(run, more)
    live = read(run)
    app = Bare()
    async with app.run_test(size=(60, 20)):
        pane = app.query_one(SamplePane)
        pane.update(live)
        assert "Answer 20" in pane.text
        assert "before" not in pane.text  # there is one answer
        pane.next(live)
        assert pane.text.startswith("prompt [bold]Why?")
        assert "(nothing)" in pane.text
        pane.next(live)
        assert "Answer 20" in pane.text


async def test_without_samples_it_says_how_to_get_one(make_run: Callable[..., Run]) -> None:
    app = Bare()
    async with app.run_test(size=(60, 20)):
        pane = app.query_one(SamplePane)
        live = read(make_run("few", 5))
        live.state = "running"
        pane.update(live)
        assert pane.text == "no samples yet: `g` asks for one"
        live.state = "done"  # nobody would answer
        pane.update(live)
        assert pane.text.startswith("no samples were made: `train.samples`")
        early = read(make_run("none", 0))
        early.state = "planned"
        pane.update(early)
        assert pane.text.endswith("once steps are made")
