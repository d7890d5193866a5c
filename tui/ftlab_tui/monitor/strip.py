"""The GPU strip: memory, utilisation, temperature, power and throttling, a line per GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.style import StyleType
from rich.text import Text

from ftlab_tui.monitor.header import Styles, fit
from ftlab_tui.reading.gpus import GpuNow

_EIGHTHS = " ▏▎▍▌▋▊▉█"
GIB = 1 << 30


def gpu_line(gpu: GpuNow, width: int, styles: Styles) -> Text:
    """One GPU."""
    name = gpu.name.removeprefix("NVIDIA ")
    parts = [Text(f"GPU {gpu.index} {name}" if width >= 60 else f"GPU {gpu.index}")]
    if gpu.used_bytes is not None and gpu.total_bytes:
        share = gpu.used_bytes / gpu.total_bytes
        memory = meter(share, 10 if width >= 90 else 5, styles)
        memory.append(f" {gpu.used_bytes / GIB:.1f}/{gpu.total_bytes / GIB:.1f} GiB")
        parts.append(memory)
    if gpu.utilisation is not None:
        parts.append(Text(f"{gpu.utilisation}%"))
    if gpu.temperature is not None:
        parts.append(Text(f"{gpu.temperature} °C", _hot(gpu.temperature, styles)))
    if gpu.watts is not None:
        limit = f"/{gpu.limit_watts:.0f}" if gpu.limit_watts else ""
        parts.append(Text(f"{gpu.watts:.0f}{limit} W"))
    style = styles.get("warning", "") if gpu.throttle else styles.get("muted", "")
    parts.append(Text("throttle: " + (", ".join(gpu.throttle) or "none"), style))
    return fit(parts, width)


def lines(
    gpus: Sequence[GpuNow], reason: str, step: Mapping[str, Any], width: int, styles: Styles
) -> Text:
    """Every GPU; without one, the memory that the trainer reports, and why."""
    if gpus:
        return Text("\n").join(gpu_line(gpu, width, styles) for gpu in gpus)
    parts = []
    if isinstance(step.get("mem_bytes"), (int, float)) and step["mem_bytes"] > 0:
        parts.append(Text(f"trainer's peak memory {step['mem_bytes'] / GIB:.2f} GiB"))
    parts.append(Text(reason, styles.get("muted", "")))
    return fit(parts, width)


def meter(share: float, cells: int, styles: Styles) -> Text:
    """A bar with a resolution of an eighth of a cell."""
    filled = round(max(0.0, min(1.0, share)) * cells * 8)
    bar = "█" * (filled // 8) + (_EIGHTHS[filled % 8] if filled % 8 else "")
    style = styles.get("error" if share > 0.97 else "accent", "")
    text = Text("▕", styles.get("muted", ""))
    text.append(bar.ljust(cells), style)
    return text.append("▏", styles.get("muted", ""))


def _hot(degrees: int, styles: Styles) -> StyleType:
    return styles.get("warning", "") if degrees >= 85 else ""
