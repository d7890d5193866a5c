"""Every screen at three sizes, compared with its picture in snapshots/.

A picture is text: characters and styles. `FTLAB_SNAPSHOTS=update` writes them anew; look at the
difference before it is committed.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
PICTURES = HERE / "snapshots"
SIZES = [(80, 24), (100, 30), (160, 48)]
MOST = 600_000  # bytes of all pictures together


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_looks_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], ModuleType],
    size: tuple[int, int],
) -> None:  # fmt: skip
    scenes, picture = load(HERE / "scenes.py"), load(HERE / "picture.py")
    core, tui = load(HERE.parent / "core/conftest.py"), load(HERE / "conftest.py")
    app = scenes.freeze(monkeypatch, tmp_path, core, tui.Maker)
    update = os.environ.get("FTLAB_SNAPSHOTS") == "update"
    seen, wrong = [], []
    async with app.run_test(size=size) as pilot:
        async for name in scenes.walk(pilot):
            seen.append(name)
            path = PICTURES / f"{name}-{size[0]}x{size[1]}.txt"
            now = picture.take(app)
            if update:
                path.write_text(now, "utf-8")
            elif difference := compared(path, now):
                wrong.append(difference)
    assert tuple(seen) == scenes.SCENES
    if wrong:
        sys.stderr.write("\n\n".join(wrong) + "\n")
        pytest.fail(f"{len(wrong)} screens look different; if that is meant, "
                    "FTLAB_SNAPSHOTS=update writes them anew", pytrace=False)  # fmt: skip


def compared(path: Path, now: str) -> str:
    """What is different, as lines; "" when nothing is."""
    before = path.read_text("utf-8") if path.exists() else ""
    lines = difflib.unified_diff(
        before.splitlines(), now.splitlines(), f"{path.name} as kept", "as it is now", "", "", 0, ""
    )
    return "\n".join(list(lines)[:60])


def test_there_is_a_picture_of_every_screen_and_they_are_small() -> None:
    kept = sorted(PICTURES.glob("*.txt"))
    assert len(kept) == 13 * len(SIZES)
    assert sum(path.stat().st_size for path in kept) < MOST
