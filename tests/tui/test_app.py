"""The keys that work everywhere, what is remembered, imports, random keys."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import waiting
from textual import events
from textual.errors import NoWidget
from textual.widgets import DataTable, Footer

from ftlab import launch, trash
from ftlab.errors import FtlabError
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab
from ftlab_tui.layout import Layout
from ftlab_tui.monitor import asking
from ftlab_tui.new import children
from ftlab_tui.runs import commands
from ftlab_tui.widgets.filterbar import FilterBar
from ftlab_tui.widgets.help import Help

until = functools.partial(waiting.until, seconds=20)

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "datasets", "numpy", "huggingface_hub", "triton")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FtuiApp:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)

    async def no_child(*arguments: object) -> object:
        raise FtlabError("no child in this test")

    for name in ("facts", "machine", "run"):
        monkeypatch.setattr(children, name, no_child)
    return FtuiApp(Lab(tmp_path / "runs", tmp_path / "state", lambda: 1.7e9, "host"))


async def test_esc_goes_back_and_never_out(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert app.current_mode == "new"
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        for _ in range(6):
            await pilot.press("escape")
        assert app.current_mode == "home"
        assert app.is_running


async def test_copy_writes_a_file(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("y")
        await pilot.pause()
    copied = app.lab.state / "copied" / "run.yaml"
    assert copied.read_text().startswith("# from standard\n")


async def test_edit_opens_the_editor(app: FtuiApp, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def edit(path: Path) -> bool:
        opened.append(path)
        path.write_text(path.read_text().replace("batch_size: 16", "batch_size: 4"))
        return True

    monkeypatch.setattr(app, "edit", edit)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("e")
        await pilot.pause()
        assert opened == [app.lab.state / "draft.yaml"]
        assert app.screen.draft.get("train.batch_size") == 4  # type: ignore[attr-defined]


async def test_filter_opens_and_closes(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "z", "z")
        bar = app.screen.query_one(FilterBar)
        assert bar.has_class("-open")
        assert bar.text == "zz"
        await pilot.press("escape")
        assert not bar.has_class("-open")
        assert bar.text == ""


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_is_typed_and_what_is_alone_is_seen_whole(
    app: FtuiApp, make_run: Callable[..., Run], size: tuple[int, int]
) -> None:
    """The filter line lies between body and footer; a pane alone fills the screen, no more."""
    make_run("one", 60, dpo=True)
    async with app.run_test(size=size) as pilot:
        for key in "1345":
            await pilot.press(key)
            await pilot.pause()
            await pilot.press("slash", "o")
            bar, footer = app.screen.query_one(FilterBar), app.screen.query_one(Footer)
            assert bar.region.height == 1, key
            assert bar.region.bottom == footer.region.y, key
            over = [w for w in app.screen.query("*") if w.parent is app.screen and w is not bar]
            assert not [w for w in over if w.region.overlaps(bar.region)], key
            await pilot.press("escape")
        await pilot.press("3")
        await pilot.pause()
        panes = [w for w in app.screen.query("*") if w.focusable and w.allow_maximize]
        panes = [pane for pane in panes if pane.region.area]  # not every one fits
        assert len(panes) >= 2
        for pane in panes:
            pane.focus()
            await pilot.press("f")
            assert app.screen.maximized is pane
            assert pane.region.width == size[0], pane
            assert pane.region.bottom <= size[1] - 1, pane
            await pilot.press("escape")
            assert app.screen.maximized is None


async def test_the_theme_is_remembered(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.theme == "ftlab-dark"
        app.theme = "clear-light"
        await pilot.pause()
    again = FtuiApp(app.lab)
    async with again.run_test(size=(80, 24)):
        assert again.theme == "clear-light"


async def test_only_a_theme_that_was_chosen_is_remembered(
    app: FtuiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLORTERM", "")
    monkeypatch.setenv("TERM", "linux")
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.theme == "ansi-dark"
        await pilot.pause()
        assert app.memory.get("theme", "") == ""
    assert Layout(app.lab.state).get("theme", "") == ""


async def test_nothing_is_black_on_black_without_colours(
    app: FtuiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app.memory.set("theme", "ansi-dark")
    app = FtuiApp(app.lab)
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.theme == "ftlab-dark"
        app.theme = "ansi-light"
        await pilot.pause()
        assert app.theme == "ftlab-light"
        strips = app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.text.strip()]
        assert all(style and style.color != style.bgcolor for style in styles)


async def test_every_command_is_in_the_palette(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)):
        names = {command.title for command in app.get_system_commands(app.screen)}
    assert {"Home", "New", "Monitor", "Runs", "Doctor", "Help", "Theme", "Quit"} <= names


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A file system of 6 MiB at tmp_path/full; what is given fills it to the last byte."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if done.returncode:
        pytest.skip(f"a file system of a size needs root: {done.stderr.strip()}")

    def fill() -> None:
        with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    try:
        yield fill
    finally:
        os.chdir(tmp_path)
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_is_told_and_ends_nothing(
    tmp_path: Path, full: Callable[[], None], monkeypatch: pytest.MonkeyPatch,
    load: Callable[[Path], ModuleType],
) -> None:  # fmt: skip
    """Runs, state, and the current folder lie on a file system without a free byte."""
    here = ROOT / "tests"
    scenes, tui = load(here / "tui/scenes.py"), load(here / "tui/conftest.py")
    app = scenes.freeze(monkeypatch, tmp_path / "full", load(here / "core/conftest.py"), tui.Maker)
    monkeypatch.setattr(trash, "size", lambda path: 1 << 20)
    started: list[Run] = []
    monkeypatch.setattr(launch, "start", lambda run, **options: started.append(run))
    monkeypatch.setattr(app, "edit", lambda path: False)
    full()
    assert os.statvfs(tmp_path / "full").f_bavail == 0

    async def told(*keys: str) -> str:
        """What is said after these keys."""
        app.clear_notifications()
        await pilot.press(*keys)
        await pilot.pause(0.2)
        return "\n".join(notice.message for notice in app._notifications).lower()

    none = "no space left"
    async with app.run_test(size=(100, 30)) as pilot:
        app.theme = "clear-dark"
        await pilot.pause()
        assert app.theme == "clear-dark"
        await pilot.press("2", "enter", "enter")
        await until(lambda: app.screen.planner.plan is not None)  # type: ignore[attr-defined]
        assert none in await told("ctrl+s")
        assert none in await told("y")
        await pilot.press("e", "a", "a")
        await pilot.press("ctrl+n", "ctrl+n", "ctrl+n")
        assert none in await told("enter")
        assert app.current_mode == "new"
        await pilot.press("1", "enter")  # Quick start
        await pilot.pause()
        await pilot.press("3")
        for key in ("k", "v", "g"):
            assert none in await told(key)
        assert none in await told("s", "y")
        assert none in await told("y")
        await pilot.press("4")
        await until(lambda: not app.screen._loading)  # type: ignore[attr-defined]
        assert none in await told("m", *"note", "enter")
        before = set(Run.all(app.lab.runs_dir))
        table = app.screen.query_one(DataTable)
        table.move_cursor(row=table.get_row_index("sft-smollm2-a"))
        await told("d", "y")
        await until(lambda: len(Run.all(app.lab.runs_dir)) == len(before) - 1)
        await told("u")
        await until(lambda: set(Run.all(app.lab.runs_dir)) == before)
        await pilot.press("x", "y", "n", "5")
        assert none in await told("x")
        await pilot.resize_terminal(60, 15)
        await pilot.press("3", "question_mark", "escape", "ctrl+p", "escape")
        assert app._exception is None
        await pilot.press("ctrl+q")
    assert app.return_code in (0, None)
    assert started == []
    assert os.statvfs(tmp_path / "full").f_bavail == 0


def test_nothing_heavy_is_imported() -> None:
    """Every module of the app, in a fresh interpreter."""
    names = [
        ".".join(path.relative_to(ROOT / "tui").with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "tui").rglob("*.py"))
    ]
    assert len(names) > 30
    code = (
        f"import importlib, sys\n[importlib.import_module(n) for n in {names!r}]\n"
        f"sys.exit(repr(sorted(set({HEAVY!r}) & set(sys.modules))).replace('[]', ''))"
    )
    path = os.pathsep.join(str(ROOT / folder) for folder in ("core", "kernels", "doctor", "tui"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stderr.strip() == ""


KEYS = [
    "tab", "shift+tab", "down", "up", "left", "right", "shift+left", "enter", "escape", "space",
    "pageup", "pagedown", "home", "end", "backspace", "delete", "slash", "question_mark", "plus",
    "minus", "full_stop", "comma", "right_square_bracket", "left_square_bracket", "ctrl+p",
    "ctrl+n", "ctrl+b", "ctrl+r", "ctrl+s", "f1", *"0123345abcdefghijklmnopqrstuvwxyzSX_'",
]  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.impatient
# Textual drops a watcher of its own, unawaited, when a screen goes while text is being selected.
@pytest.mark.filterwarnings("ignore:coroutine 'Screen._watch_selections':RuntimeWarning")
@pytest.mark.filterwarnings(
    "ignore:.*Screen._watch_selections:pytest.PytestUnraisableExceptionWarning"
)
async def test_random_keys_sizes_and_clicks_never_end_it(
    app: FtuiApp, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FTLAB_FUZZ_EVENTS events (200 by default), over every mode; the same for the same number."""
    for number, name in enumerate(("one", "two", "three", "four")):
        make_run(name, 10 + 20 * number, dpo=name == "two", live=name == "four")
    no_child = commands.Child("ftrun", Path("none"), None, "no child in this test")
    monkeypatch.setattr(commands, "start", lambda *arguments: no_child)
    monkeypatch.setattr(launch, "start", lambda run, resume=False: 0)
    monkeypatch.setattr(asking, "end", lambda run, kill=False: asking.Answer("not sent"))
    monkeypatch.setattr(app, "edit", lambda path: False)

    async def stay() -> None:
        """Instead of leaving."""

    monkeypatch.setattr(app, "action_quit", stay)
    chance = random.Random(7)
    async with app.run_test(size=(80, 24)) as pilot:
        for number in range(int(os.environ.get("FTLAB_FUZZ_EVENTS", "200"))):
            luck = chance.random()
            if luck < 0.05:
                await pilot.resize_terminal(chance.randint(1, 200), chance.randint(1, 60))
            elif luck < 0.1:
                place = chance.randrange(app.size.width), chance.randrange(app.size.height)
                with contextlib.suppress(NoWidget):  # the screen is not laid out at this size yet
                    await pilot.click(offset=place, times=chance.choice((1, 1, 2)))
            else:
                key = chance.choice(KEYS)
                app.post_message(events.Key(key, key if len(key) == 1 else None))
            if number % 4 == 0:  # most keys come faster than they are dealt with
                await pilot.pause()
            if number % 500 == 0:
                print(number)
            assert app.is_running
            assert app._exception is None, number
        for _ in range(20):
            await pilot.press("escape")
        assert app.current_mode == "home"
