"""The keys that work everywhere, what is remembered, imports, first paint, random keys."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Input

from ftlab.errors import FtlabError
from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab
from ftlab_tui.new import children
from ftlab_tui.widgets.filterbar import FilterBar
from ftlab_tui.widgets.help import Help

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


async def test_the_theme_is_remembered(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.theme == "ftlab-dark"
        app.theme = "clear-light"
        await pilot.pause()
    again = FtuiApp(app.lab)
    async with again.run_test(size=(80, 24)):
        assert again.theme == "clear-light"


async def test_every_command_is_in_the_palette(app: FtuiApp) -> None:
    async with app.run_test(size=(80, 24)):
        names = {command.title for command in app.get_system_commands(app.screen)}
    assert {"Home", "New", "Monitor", "Runs", "Doctor", "Help", "Theme", "Quit"} <= names


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


async def test_random_keys_and_sizes_never_end_it(app: FtuiApp) -> None:
    """FTLAB_FUZZ events (300 by default), the same for the same number."""
    chance = random.Random(7)
    keys = ["tab", "down", "up", "left", "right", "enter", "escape", "slash", "a", "1", "2", "5",
            "question_mark", "y",
            "space", "pageup", "end", "backspace", "f", "shift+tab"]  # fmt: skip
    async with app.run_test(size=(80, 24)) as pilot:
        # what may start a trainer or an editor is not pressed at random
        app.action_launch = lambda: None  # type: ignore[attr-defined]
        for _ in range(int(os.environ.get("FTLAB_FUZZ", "300"))):
            if chance.random() < 0.1:
                await pilot.resize_terminal(chance.randint(20, 200), chance.randint(6, 60))
            else:
                key = chance.choice(keys)
                reviewing = getattr(app.screen, "step", "") == "review"
                await pilot.press("escape" if reviewing and key in ("enter", "space") else key)
            assert app.is_running
        assert not app.screen.query(Input) or app.is_running


def test_the_first_paint_is_quick(tmp_path: Path) -> None:
    """In processor time, against Textual's own import: a busy machine slows both alike."""
    code = (
        "import asyncio, time\nfrom pathlib import Path\nimport textual.app\n"
        "alone = time.process_time()\n"
        "from ftlab_tui.app import FtuiApp\nfrom ftlab_tui.lab import Lab\n"
        f"place = Path({str(tmp_path)!r})\n"
        "async def main():\n"
        "    app = FtuiApp(Lab(place, place, time.time, 'h'))\n"
        "    def painted(): print(time.process_time() / alone); app.exit()\n"
        "    async def ready(pilot): pilot.app.call_after_refresh(painted)\n"
        "    await app.run_async(headless=True, size=(120, 40), auto_pilot=ready)\n"
        "asyncio.run(main())\n"
    )
    ratios = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        ratios.append(float(done.stdout))
    assert min(ratios) < 1.8, ratios  # Textual alone is 0.22 s on a quiet machine of 2 cores
