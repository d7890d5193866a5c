"""What every mode's screen has: bar, filter line, keys that go to it; silent ones do nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from textual.widget import Widget
from textual.widgets import Footer, Static
from waiting import until

from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab
from ftlab_tui.widgets.filterbar import FilterBar
from ftlab_tui.widgets.modebar import ModeBar
from ftlab_tui.widgets.modescreen import ModeScreen


class Silent(ModeScreen):
    MODE = "home"


class Telling(ModeScreen):
    """Keeps what is asked of it."""

    MODE = "runs"

    def __init__(self) -> None:
        super().__init__()
        self.filters: list[str] = []
        self.times_shown = 0
        self.words = "one thing"
        self.file: Path | None = None
        self.read: list[Path] = []
        self.back = 0
        self.filterable = True

    def body(self) -> Iterable[Widget]:
        yield Static("the body", id="body")

    def about(self) -> str:
        return self.words

    def apply_filter(self, text: str) -> None:
        self.filters.append(text)

    def can_filter(self) -> bool:
        return self.filterable

    def copied(self) -> tuple[str, str]:
        return "words.txt", self.words

    def edited(self) -> Path | None:
        return self.file

    def after_edit(self, path: Path) -> None:
        self.read.append(path)

    def go_back(self) -> bool:
        self.back += 1
        return self.back == 1

    def shown(self) -> None:
        self.times_shown += 1


@pytest.fixture
def app(tmp_path: Path) -> FtuiApp:
    made = FtuiApp(Lab(tmp_path / "runs", tmp_path / "state", lambda: 1.7e9, "host"))
    made._modes["runs"] = Telling
    return made


async def telling(app: FtuiApp) -> Telling:
    """The screen, once it is in front."""
    await until(lambda: app.current_mode == "home")
    app.switch_mode("runs")
    await until(lambda: isinstance(app.screen, Telling) and bool(app.screen.query(FilterBar)))
    screen = app.screen
    assert isinstance(screen, Telling)
    return screen


def told(app: FtuiApp) -> list[str]:
    return [note.message for note in app._notifications]


def test_a_screen_without_a_file_offers_no_edit() -> None:
    assert not Silent().can_edit()
    assert Telling().can_edit()  # it has one, only not now


def test_a_silent_screen_keeps_nothing_back() -> None:
    screen = Silent()
    assert list(screen.body()) == []
    assert screen.copied() is None
    assert screen.edited() is None
    assert screen.can_filter()
    assert not screen.go_back()
    screen.apply_filter("x")
    screen.after_edit(Path("x"))
    screen.shown()


async def test_the_parts_and_what_is_shown_of_it(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await telling(app)
        await pilot.pause()
        kinds = [type(widget) for widget in screen.children]
        places = [kinds.index(kind) for kind in (ModeBar, Static, FilterBar, Footer)]
        assert places == sorted(places)
        bar = screen.query_one(ModeBar)
        assert bar.about == "one thing"
        assert screen.focused is None  # not the line that is hidden
        times = screen.times_shown
        screen.words = "another"
        screen.refresh_about()
        assert bar.about == "another"
        await pilot.press("1", "4")
        assert screen.times_shown == times + 1
        assert screen.lab is app.lab
        assert screen.layout_memory is app.memory


@pytest.mark.parametrize(("size", "classes"), [
    ((80, 24), {"-narrow", "-short"}), ((100, 30), {"-normal", "-tall"}),
    ((160, 48), {"-wide", "-tall"}),
])  # fmt: skip
async def test_it_knows_how_much_room_there_is(
    app: FtuiApp, size: tuple[int, int], classes: set[str]
) -> None:
    async with app.run_test(size=size) as pilot:
        await telling(app)
        await pilot.pause()
        sizes = {"-narrow", "-normal", "-wide", "-short", "-tall"}
        assert set(app.screen.classes) & sizes == classes


async def test_the_filter_line_opens_narrows_and_closes(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await telling(app)
        await pilot.pause()
        assert not screen.close_filter()
        await pilot.press("slash", "a", "b")
        assert screen.filters == ["a", "ab"]
        await pilot.press("escape")
        assert screen.filters[-1] == ""
        assert screen.back == 0  # esc closed the line and nothing else
        assert app.screen is screen
        screen.filterable = False
        await pilot.press("slash")
        assert not screen.query_one(FilterBar).has_class("-open")
        assert "there is nothing to filter here" in told(app)


async def test_esc_goes_back_inside_and_then_home(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await telling(app)
        await pilot.press("escape")
        assert app.current_mode == "runs"
        await pilot.press("escape")
        assert app.current_mode == "home"
        await pilot.press("escape")
        assert app.is_running


async def test_copy_and_edit_go_to_the_screen_in_front(
    app: FtuiApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(app, "edit", lambda path: opened.append(path) or True)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await telling(app)
        await pilot.press("y")
        assert (app.lab.state / "copied" / "words.txt").read_text() == "one thing\n"
        await pilot.press("e")
        assert opened == []
        assert "there is no file to edit here" in told(app)
        screen.file = tmp_path / "x.yaml"
        await pilot.press("e")
        assert opened == screen.read == [tmp_path / "x.yaml"]
        monkeypatch.setattr(app, "edit", lambda path: False)  # an editor that failed
        await pilot.press("e")
        assert len(screen.read) == 1
