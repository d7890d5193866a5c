"""Texts of New: YAML in colour, the memory bar, what the data is, the review. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from ftlab.facts import DataFacts, Machine
from ftlab.plan import MEMORY_TERMS, Plan
from ftlab.planning.words import duration, number, size
from ftlab.planning.words import rows as rows_of
from ftlab.values import parse_bytes

Colours = Mapping[str, str]
OPEN, CLOSE = "⟦", "⟧"
# The estimate is meant not to be too low, so the range leans down. Not calibrated on real runs.
LOW, HIGH = 0.8, 1.1
GLYPHS = dict(zip(MEMORY_TERMS, "█▓▒░▚▞▤", strict=True))
TONES = dict(
    zip(
        MEMORY_TERMS,
        ("primary", "accent", "success", "secondary", "warning", "error", "foreground"),
        strict=True,
    )
)


def yaml(text: str, colours: Colours) -> Text:
    """YAML with its keys coloured."""
    shown = Text()
    for line in text.splitlines():
        if line.startswith("#"):
            shown.append(line, "dim")
        else:
            key, colon, value = line.partition(":")
            tone = colours["primary"] if line.startswith(" ") else f"bold {colours['accent']}"
            shown.append(key + colon, tone).append(value)
        shown.append("\n")
    return shown


def memory_bar(plan: Plan, width: int, colours: Colours) -> Text:
    """One line: terms as blocks, the empty rest of the budget, and the numbers."""
    budget = _budget(plan)
    numbers = f" {size(plan.total)} of {size(budget)}"
    room = max(8, width - len(numbers))
    whole = max(budget, plan.total, 1)
    text, used = Text(no_wrap=True, overflow="crop"), 0
    total = 0
    for term in MEMORY_TERMS:
        total += plan.memory.get(term, 0)
        upto = min(room, round(room * total / whole))
        text.append(GLYPHS[term] * (upto - used), colours[TONES[term]])
        used = max(used, upto)
    text.append("·" * (room - used), "dim")
    return text.append(numbers)


def _budget(plan: Plan) -> int:
    try:
        return parse_bytes(str(plan.config.memory.budget))
    except ValueError:
        return plan.total


def memory_terms(plan: Plan, colours: Colours) -> Text:
    """Each term with its block and size, and the total as a range."""
    text = Text()
    for term in MEMORY_TERMS:
        amount = plan.memory.get(term, 0)
        if amount:
            text.append(f"{GLYPHS[term]} ", colours[TONES[term]])
            text.append(f"{term:<12}{size(amount):>10}\n")
    spread = f"{size(LOW * plan.total)} to {size(HIGH * plan.total)}"
    return text.append(f"  {'total':<12}{size(plan.total):>10}", "bold").append(f"  ({spread})")


def marked(sample: str, colours: Colours, most: int = 12) -> Text:
    """A rendered row; what is trained stands in colour and between its marks."""
    text, inside = Text(), False
    lines = sample.strip("\n").splitlines()
    for line in lines[:most]:
        for part in _parts(line):
            if part == OPEN:
                inside = True
                text.append(part, f"bold {colours['success']}")
            elif part == CLOSE:
                text.append(part, f"bold {colours['success']}")
                inside = False
            else:
                text.append(part, f"bold {colours['success']}" if inside else "")
        text.append("\n")
    if len(lines) > most:
        text.append(f"... {len(lines) - most} more lines\n", "dim")
    return text


def _parts(line: str) -> Iterator[str]:
    current = ""
    for c in line:
        if c in (OPEN, CLOSE):
            if current:
                yield current
            yield c
            current = ""
        else:
            current += c if c.isprintable() else " "
    if current:
        yield current


def data(facts: DataFacts, limit: int | None, colours: Colours, width: int) -> Text:
    """Format and reason, counts, lengths as a histogram against the limit, what is left out."""
    text = Text()
    text.append("format   ", "dim").append(facts.format, "bold").append(
        f": {facts.format_reason}\n"
    )
    share = 100 * facts.trained_tokens / max(1, facts.tokens)
    text.append("rows     ", "dim").append(
        f"{rows_of(facts.rows, facts.preference)}, {number(facts.tokens)} tokens, "
    )
    tone = colours["success"] if facts.trained_tokens else colours["error"]
    text.append(f"{number(facts.trained_tokens)} trained", f"bold {tone}")
    text.append(f" ({share:.0f} %)\n")
    left_out = [f"{count:,} {reason}" for reason, count in facts.skipped.items() if count]
    text.append("left out ", "dim").append("; ".join(left_out) or "none")
    text.append(f"    duplicates {facts.duplicates:,}\n")
    text.append("template ", "dim").append(f"{facts.template or 'none'}\n")
    if limit is not None:
        over = sum(n for bound, n in facts.histogram if bound > limit)
        exact = facts.over.get(str(limit))
        cut = 0 if limit >= facts.longest else (exact if exact is not None else over)
        text.append("cut      ", "dim").append(
            f"{cut:,} rows ({100 * cut / max(1, facts.rows):.1f} %) are longer than {limit:,}\n"
        )
    return text.append_text(histogram(facts, limit, colours, width))


def histogram(facts: DataFacts, limit: int | None, colours: Colours, width: int) -> Text:
    """Rows by length, one line a bucket; buckets beyond the limit are marked."""
    text = Text()
    most = max((count for _, count in facts.histogram), default=1) or 1
    room = max(6, min(40, width - 26))
    for bound, count in facts.histogram:
        beyond = limit is not None and bound > limit
        tone = colours["warning"] if beyond else colours["primary"]
        text.append(f"{'≤ ' + format(bound, ','):>9} ", "dim")
        bar = "█" * round(room * count / most) or ("▏" if count else "")
        text.append(bar, tone).append(f" {count:,}{' over' if beyond and count else ''}\n")
    return text


def where(plan: Plan, machine: Machine) -> str:
    """Where it runs, as a sentence."""
    device = plan.decisions.get("device")
    reason = f" ({device.reason})" if device else ""
    return f"{plan.config.launch.where}, {device.value if device else '?'}{reason}"


def course(plan: Plan) -> list[tuple[str, str]]:
    """Steps, time, disk."""
    seconds = plan.seconds
    time = f"{duration(seconds[0])} to {duration(seconds[1])}" if seconds else "not known"
    return [
        ("steps", f"{plan.steps:,} ({plan.steps_per_epoch:,} an epoch), {plan.rows:,} rows"),
        ("trained", f"{number(plan.train_tokens)} tokens"),
        ("time", time),
        *([("shared", f"every step by {plan.world_size} processes; memory is of each")]
          if plan.world_size > 1 else []),
        ("disk", f"up to {size(plan.disk_bytes)}, "
                 f"{size(plan.facts.machine.disk_free_bytes)} free"),
        ("runs on", where(plan, plan.facts.machine)),
    ]  # fmt: skip


def difference(changes: list[tuple[str, str, str]], preset: str) -> Text:
    """What differs from the preset, old and new."""
    if not changes:
        return Text(f"nothing differs from {preset or 'the defaults'}", "dim")
    text = Text()
    for path, old, new in changes:
        text.append(f"{path}: ").append(old, "dim strike").append(f" {new}\n", "bold")
    return text
