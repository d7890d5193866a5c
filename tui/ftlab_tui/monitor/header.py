"""The head of the monitor: state, progress, time that is left, and the newest figures.

Pure functions from a `LiveRun` to text; what does not fit the width is left out from the right,
the least important first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.style import StyleType
from rich.text import Text

from ftlab.progress import duration
from ftlab.run import LIVE
from ftlab_tui.monitor.axis import label, number
from ftlab_tui.reading.live import LiveRun

if TYPE_CHECKING:
    from ftlab_tui.reading.speed import Speed

SIGNS = {  # state -> (sign, style)
    "running": ("●", "success"),
    "stalled": ("◐", "warning"),
    "planned": ("○", "muted"),
    "done": ("✔", "success"),
    "stopped": ("■", "warning"),
    "failed": ("✘", "error"),
    "lost": ("✘", "error"),
    "deleted": ("✘", "error"),
}
GAP = "   "
Styles = Mapping[str, StyleType]  # success, warning, error, muted, accent -> the theme's style


def sign(state: str, styles: Styles) -> Text:
    """A state as sign and word: never by colour alone."""
    mark, name = SIGNS.get(state, ("?", "muted"))
    return Text(f"{mark} {state}", styles.get(name, ""))


def progress(live: LiveRun, width: int, styles: Styles, now: float | None = None) -> Text:
    """First line: name, state, step, bar, time that is left and was taken."""
    now = time.time() if now is None else now
    done, total = live.step, live.total_steps
    parts = [Text(live.run.id, "bold"), sign(live.state, styles)]
    if total:
        parts.append(Text(f"step {done:,}/{total:,}"))
    tail = [Text(part) for part in _times(live, now)]
    epoch = live.last_step.get("epoch")
    if isinstance(epoch, (int, float)):
        tail.append(Text(f"epoch {epoch:.2f}", styles.get("muted", "")))
    if len(live.sessions) > 1:
        tail.append(Text(f"resumed {len(live.sessions) - 1}x", styles.get("muted", "")))
    if total:
        room = width - _length(parts) - _length(tail[:2]) - 3 * len(GAP) - 6
        parts.append(_bar(min(1.0, done / total), max(0, min(30, room)), styles))
    return fit([*parts, *tail], width)


def figures(live: LiveRun, speed: Speed | None, width: int, styles: Styles) -> Text:
    """Second line: loss and its change, evaluation, speed, MFU with its peak, trained tokens."""
    step, muted = live.last_step, styles.get("muted", "")
    parts: list[Text] = []
    if live.loaded < 1 and live.train.columns:
        parts.append(Text(f"reading {live.loaded:.0%}", styles.get("accent", "")))
    loss = live.train.last("loss")
    if live.train.columns.get("loss"):
        parts.append(_named("loss", f"{number(loss)}{_trend(live)}", muted))
    if live.preference:
        parts.append(_named("accuracy", number(live.train.last("rewards/accuracies")), muted))
        parts.append(_named("margin", number(live.train.last("rewards/margins")), muted))
    if live.last_eval:
        best = f" best {number(live.best[0])}@{live.best[1]}" if live.best else ""
        parts.append(_named("eval", f"{number(live.evals.last('loss'))}{best}", muted))
    if "tok_s" in step:
        parts.append(_named("", f"{number(live.train.last('tok_s'))} tok/s", muted))
    parts.append(_mfu(live, speed, muted))
    if "lr" in step:
        parts.append(_named("lr", label(live.train.last("lr")), muted))
    if "grad_norm" in step:
        parts.append(_named("grad-norm", number(live.train.last("grad_norm")), muted))
    if isinstance(step.get("trained_total"), (int, float)):
        parts.append(_named("trained tokens", label(step["trained_total"]), muted))
    if live.skipped_steps:
        parts.append(_named("skipped", str(live.skipped_steps), muted))
    if not live.train.columns:
        parts = [Text(waiting_for(live), muted)]
    return fit(parts, width)


def waiting_for(live: LiveRun) -> str:
    """Why there are no figures yet."""
    if live.state == "deleted":
        return "this run is gone"
    if live.loaded < 1:
        return f"reading events {live.loaded:.0%}"
    if live.state in LIVE:
        return live.status.message or "starting: libraries and the model are being loaded"
    if live.state == "planned":
        return "planned, not started"
    return "no step was finished"


def fit(parts: Sequence[Text], width: int) -> Text:
    """The parts side by side; those that do not fit are dropped from the right."""
    line = Text(no_wrap=True, overflow="ellipsis", end="")
    for part in parts:
        if not part.plain:
            continue
        gap = GAP if line.plain else ""
        if line.cell_len + len(gap) + part.cell_len > width and line.plain:
            break
        line.append(gap)
        line.append_text(part)
    line.truncate(max(1, width), overflow="ellipsis")
    return line


def _times(live: LiveRun, now: float) -> list[str]:
    left, elapsed = live.left(now), live.elapsed(now)
    times = []
    if live.state in LIVE:
        times.append("ETA unknown" if left is None else f"ETA {duration(left)}")
    if elapsed:
        times.append(f"elapsed {duration(elapsed)}")
    return times


def _bar(share: float, room: int, styles: Styles) -> Text:
    bar = Text()
    if room >= 5:
        full = int(share * room)
        bar.append("━" * full, styles.get("accent", ""))
        bar.append("─" * (room - full), styles.get("muted", ""))
        bar.append(" ")
    return bar.append(f"{share:.0%}")


def _named(name: str, value: str, muted: StyleType) -> Text:
    text = Text(f"{name} ", muted) if name else Text()
    return text.append(value, "not dim")


def _trend(live: LiveRun) -> str:
    """How the loss of the last tenth of the steps compares with the tenth before it."""
    column = live.train.columns.get("loss")
    count = min(50, len(column.values) // 2) if column else 0
    if column is None or count < 2:
        return ""
    now, before = column.values[-count:], column.values[-2 * count : -count]
    change = (sum(now) - sum(before)) / count
    if change != change or abs(change) < 5e-4:
        return ""
    return f" {'▼' if change < 0 else '▲'}{abs(change):.2g}"


def _mfu(live: LiveRun, speed: Speed | None, muted: StyleType) -> Text:
    if speed is None or not live.last_step:
        return Text()
    share = speed.mfu(live.last_step)
    if share is None:
        return _named("MFU", "n/a", muted)
    return _named("MFU", f"{share:.1%} of {speed.against}", muted)


def _length(parts: Sequence[Text]) -> int:
    return sum(part.cell_len + len(GAP) for part in parts)
