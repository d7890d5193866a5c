"""What is wrong with a run right now: each alarm with what it means, worst first.

Pure: what it judges is given. A power cap alone is no alarm, for many cards train at it all day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftlab.progress import duration
from ftlab.run import LIVE, STALLED_AFTER
from ftlab_tui.reading.gpus import GpuNow
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.reading.series import Table

SPIKE = 3.0  # times the smoothed loss
SLOWER = 0.7  # of the usual tokens per second
CHECKPOINTS = 2  # that must still fit on the disk
_WINDOW = 100  # logged steps that "usual" is taken from
_RECENT = 20  # logged steps that an alarm about the loss is kept for
_STALE = 15.0  # seconds without a heartbeat that are worth a word


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong. `severe` ones are shown in red."""

    key: str
    text: str
    severe: bool = False


def judge(live: LiveRun, gpus: Sequence[GpuNow] = (), disk_free: int | None = None) -> list[Alarm]:
    """Every alarm of a run, severe ones first."""
    found = [*_state(live), *_losses(live), *_hardware(live, gpus, disk_free)]
    return sorted(found, key=lambda alarm: not alarm.severe)


def _state(live: LiveRun) -> list[Alarm]:
    if live.state == "deleted":
        return [Alarm("deleted", "the run's folder was deleted or moved", True)]
    if live.state == "lost":
        return [Alarm("lost", "the trainer is gone without a word; see the log, then resume", True)]
    if live.state == "failed":
        reason = live.status.message or "the log says why"
        return [Alarm("failed", f"the run failed: {reason}", True)]
    silence = live.status.silence() if live.status.heartbeat else 0.0
    if live.state in LIVE and silence > _STALE:
        text = f"no sign of life for {duration(silence)}"
        return [Alarm("heartbeat", text, silence > STALLED_AFTER)]
    return []


def _losses(live: LiveRun) -> list[Alarm]:
    found = []
    for name in ("loss", "grad_norm"):
        row = _newest_odd(live.train, name)
        skipped = name == "grad_norm" and live.skipped_steps > 0
        if row is not None and not skipped:
            word = name.replace("_", "-")
            found.append(Alarm("nan", f"{word} is not finite at step {row:.0f}", True))
    spike = loss_spike(live.train)
    if spike is not None:
        step, value, usual = spike
        text = f"loss {value:.3g} at step {step:.0f}, usually {usual:.3g}"
        found.append(Alarm("spike", text))
    if live.skipped_steps:
        many = f"{live.skipped_steps} steps skipped: fp16 gradients overflowed"
        found.append(Alarm("skipped", many))
    return found


def _hardware(live: LiveRun, gpus: Sequence[GpuNow], disk_free: int | None) -> list[Alarm]:
    found = []
    slow = slow_down(live.train) if live.state in LIVE else None
    if slow is not None:
        now, usual = slow
        found.append(Alarm("slow", f"{now:,.0f} tok/s, usually {usual:,.0f}"))
    for gpu in gpus:
        reasons = [reason for reason in gpu.throttle if reason != "power cap"]
        if reasons:
            found.append(Alarm("throttle", f"GPU {gpu.index} is throttled: {', '.join(reasons)}"))
    sizes = [int(event.get("bytes") or 0) for event in live.checkpoints]
    if disk_free is not None and sizes and disk_free < CHECKPOINTS * sizes[-1]:
        text = f"{disk_free / 2**20:,.0f} MiB free: less than {CHECKPOINTS} checkpoints"
        found.append(Alarm("disk", text, disk_free < sizes[-1]))
    return found


def loss_spike(table: Table) -> tuple[float, float, float] | None:
    """(step, loss, usual loss) of a recent loss far above what was usual; None without one."""
    column = table.columns.get("loss")
    if column is None or len(column.values) < 10:
        return None
    values = column.values
    start = max(5, len(values) - _RECENT)
    for row in range(len(values) - 1, start - 1, -1):
        before = sorted(v for v in values[max(0, row - _WINDOW) : row] if v - v == 0)
        usual = before[len(before) // 2] if before else math.nan
        if usual > 0 and values[row] > SPIKE * usual and math.isfinite(values[row]):
            return table.steps[row], values[row], usual
    return None


def slow_down(table: Table) -> tuple[float, float] | None:
    """(tokens per second now, usually) when the last steps are much slower; None otherwise."""
    column = table.columns.get("tok_s")
    if column is None or len(column.values) < 30:
        return None
    values = [v for v in column.values[-_WINDOW:] if v - v == 0]
    if len(values) < 30:
        return None
    recent, usual = sorted(values[-5:])[2], sorted(values[:-5])[len(values[:-5]) // 2]
    return (recent, usual) if recent < SLOWER * usual else None


def _newest_odd(table: Table, name: str) -> float | None:
    """The step of a value that is not finite among the last ones."""
    column = table.columns.get(name)
    if column is None:
        return None
    for row in range(len(column.values) - 1, max(-1, len(column.values) - _RECENT), -1):
        if not math.isfinite(column.values[row]):
            return table.steps[row]
    return None
