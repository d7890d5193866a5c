"""Every screen and dialog, compared with its picture in snapshots/.

A picture is text (every character and style) at three sizes, and at one of them an SVG besides: it
says no more than the text, but shows it, and a drawing of each size would be three million bytes.
`make snapshots` writes them anew; look at the difference before it is committed. Where a drawing
differs, a page that shows the old one beside the new one is left in build/snapshots.
"""

from __future__ import annotations

import difflib
import html
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
PICTURES = HERE / "snapshots"
BUILD = HERE.parents[1] / "build" / "snapshots"
SIZES = [(80, 24), (100, 30), (160, 48)]
DRAWN = (100, 30)
SCREENS = 23
MOST = {"txt": 800_000, "svg": 1_200_000}  # bytes of all pictures of a kind together


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_looks_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], ModuleType],
    size: tuple[int, int],
) -> None:  # fmt: skip
    scenes, picture = load(HERE / "scenes.py"), load(HERE / "picture.py")
    core, tui = load(HERE.parent / "core/conftest.py"), load(HERE / "conftest.py")
    app = scenes.freeze(monkeypatch, tmp_path, core, tui.Maker)
    seen, wrong = [], {}
    async with app.run_test(size=size) as pilot:
        async for name in scenes.walk(pilot):
            seen.append(name)
            taken = {f"{name}-{size[0]}x{size[1]}.txt": picture.take(app)}
            if size == DRAWN:
                taken[f"{name}.svg"] = picture.svg(app)
            for file, now in taken.items():
                if difference := compared(PICTURES / file, now):
                    wrong[file] = difference
    assert tuple(seen) == scenes.SCENES
    if wrong:
        sys.stderr.write("\n\n".join(wrong.values()) + "\n")
        pytest.fail(
            f"{len(wrong)} pictures differ: {', '.join(wrong)}. If that is meant, "
            f"`make snapshots` writes them anew. {beside(wrong)}", pytrace=False,
        )  # fmt: skip


def compared(path: Path, now: str) -> str:
    """What is different, as lines; "" when nothing is, or when pictures are written anew."""
    if os.environ.get("FTLAB_SNAPSHOTS") == "update":
        path.write_text(now, "utf-8")
        return ""
    before = path.read_text("utf-8") if path.exists() else ""
    if before == now:
        return ""
    if path.suffix == ".svg":
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / path.name).write_text(now, "utf-8")
        return f"{path.name}: another drawing"
    lines = difflib.unified_diff(
        before.splitlines(), now.splitlines(), f"{path.name} as kept", "as it is now", "", "", 0, ""
    )
    return "\n".join(list(lines)[:60])


def beside(files: dict[str, str]) -> str:
    """Put the drawings that differ beside those that are kept; where the page is, "" without."""
    drawn = [file for file in files if file.endswith(".svg")]
    if not drawn:
        return ""
    rows = [
        f"<h2>{html.escape(file)}</h2><img width=49% src='{(PICTURES / file).as_uri()}'>"
        f"<img width=49% src='{(BUILD / file).as_uri()}'>"
        for file in drawn
    ]
    page = BUILD / "index.html"
    page.write_text("<!doctype html><meta charset=utf-8><h1>as kept, and now</h1>" + "".join(rows))
    return f"Old and new drawings: {page}"


def test_there_is_a_picture_of_every_screen_and_they_are_small() -> None:
    expected = {"txt": SCREENS * len(SIZES), "svg": SCREENS}
    for kind, count in expected.items():
        kept = sorted(PICTURES.glob(f"*.{kind}"))
        assert len(kept) == count
        assert sum(path.stat().st_size for path in kept) < MOST[kind]


def test_a_difference_is_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], ModuleType]
) -> None:
    here = load(HERE / "test_snapshots.py")
    for name, folder in (("PICTURES", "kept"), ("BUILD", "build")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(here, name, tmp_path / folder)
    text, drawing = tmp_path / "kept/home-80x24.txt", tmp_path / "kept/home.svg"
    text.write_text("one\ntwo\n")
    drawing.write_text("<svg>old</svg>\n")
    monkeypatch.delenv("FTLAB_SNAPSHOTS", raising=False)
    assert here.compared(text, "one\ntwo\n") == ""
    told = here.compared(text, "one\nthree\n")
    assert told.splitlines()[-2:] == ["-two", "+three"]
    assert "home.svg" in here.compared(drawing, "<svg>new</svg>\n")
    assert here.beside({"home-80x24.txt": told}) == ""
    assert "index.html" in here.beside({"home.svg": "differs"})
    page = (tmp_path / "build/index.html").read_text()
    assert (tmp_path / "build/home.svg").as_uri() in page
    monkeypatch.setenv("FTLAB_SNAPSHOTS", "update")
    assert here.compared(drawing, "<svg>new</svg>\n") == ""
    assert drawing.read_text() == "<svg>new</svg>\n"
