"""The plan as text for a terminal: sections, reasons, memory as bars, one sample with its marks."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator

from ftlab.facts import Speed
from ftlab.planning import exchange
from ftlab.planning.measured import device_name, matching
from ftlab.planning.types import Plan
from ftlab.planning.words import duration, number, size
from ftlab.planning.words import rows as rows_of
from ftlab.values import parse_bytes, shown

LABEL = 24  # columns of the left-hand names
MARKS = ("⟦", "⟧")  # of ftlab.data.chat.MARKS: trained text stands between them
SAMPLE_LINES = 24
BOLD, DIM, GREEN, YELLOW, END = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


def render(plan: Plan, width: int = 80, *, colour: bool = False) -> str:
    """The plan as text, no line wider than `width` columns (at least 40).

    Args:
        colour: use ANSI colours; only where the text goes to a terminal.
    """
    page = _Page(max(40, width), colour)
    for title, lines in (
        ("Model", _model(plan)),
        ("Data", _data(plan)),
        ("Method", _method(plan)),
    ):
        page.section(title)
        page.pairs(lines)
    _sample(page, plan)
    _decisions(page, plan)
    _memory(page, plan)
    page.section("Steps and time")
    page.pairs(_course(plan))
    if plan.warnings:
        page.section("Warnings")
        for warning in plan.warnings:
            page.item(warning)
    return "\n".join(page.lines).strip("\n") + "\n"


class _Page:
    """Lines of a given width."""

    def __init__(self, width: int, colour: bool) -> None:
        self.width, self.colour = width, colour
        self.lines: list[str] = []

    def paint(self, text: str, style: str) -> str:
        return f"{style}{text}{END}" if self.colour else text

    def section(self, title: str) -> None:
        self.lines += ["", *(self.paint(line, BOLD) for line in wrap(title, self.width))]

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        for name, text in pairs:
            self.pair(name, text)

    def pair(self, name: str, text: str) -> None:
        """A name on the left, wrapped text on the right."""
        label = min(LABEL, self.width // 3)
        wrapped = wrap(text, self.width - label - 2) or [""]
        first = f"  {name:<{label - 1}} " if len(name) < label else f"  {name}\n{' ' * (label + 2)}"
        self.lines += (first + wrapped[0]).split("\n")
        self.lines += [" " * (label + 2) + line for line in wrapped[1:]]

    def item(self, text: str) -> None:
        first, *rest = wrap(text, self.width - 4) or [""]
        self.lines.append(f"  {self.paint('!', YELLOW)} {first}")
        self.lines += [f"    {line}" for line in rest]


def wrap(text: str, width: int) -> list[str]:
    """Wrap printable text; control characters become spaces."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(clean, max(10, width), break_on_hyphens=False)


def columns(text: str) -> int:
    """Terminal columns of a text: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _model(plan: Plan) -> Iterator[tuple[str, str]]:
    model, config = plan.facts.model, plan.config
    spec = model.spec
    yield "name", model.name + (f" at {model.revision[:12]}" if model.revision else "")
    yield (
        "kind",
        (
            f"{model.family} ({model.architecture}), {number(model.parameters)} parameters, "
            f"{spec['num_layers']} layers, hidden {spec['hidden_size']}, "
            f"{model.max_positions:,} positions"
        ),
    )
    yield "on disk", f"{model.stored_dtype}, {size(model.stored_bytes)}"
    trained = plan.memory["gradients"] // 4
    share = 100 * trained / max(1, model.parameters)
    yield "trained", f"{number(trained)} parameters ({share:.2g} %): {_adapter(plan)}"
    if config.model.trust_remote_code:
        yield "remote code", "allowed: code that comes with the model may run"


def _adapter(plan: Plan) -> str:
    adapter = plan.config.adapter
    if adapter.kind == "none":
        return "every weight"
    targets = adapter.target_modules
    where = (
        ", ".join(plan.facts.model.linear_shapes)
        if targets == "all-linear"
        else (", ".join(targets))
    )
    extra = "".join(
        f", {name}"
        for name, on in (("rsLoRA", adapter.use_rslora), ("DoRA", adapter.use_dora))
        if on
    )
    saved = f", and {', '.join(adapter.modules_to_save)}" if adapter.modules_to_save else ""
    return f"LoRA r={adapter.r}, alpha={adapter.lora_alpha:g}{extra} on {where}{saved}"


def _data(plan: Plan) -> Iterator[tuple[str, str]]:
    data = plan.facts.data
    yield "source", data.source
    yield "format", _reasoned(data.format, data.format_reason)
    share = 100 * data.trained_tokens / max(1, data.tokens)
    yield (
        "rows",
        (
            f"{rows_of(data.rows, data.preference)}, {number(data.tokens)} tokens, "
            f"{number(data.trained_tokens)} of them trained ({share:.0f} %)"
        ),
    )
    quantiles = [
        f"{share} % up to {data.percentiles[share]:,}"
        for share in ("50", "95", "99")
        if share in data.percentiles
    ]
    yield "lengths", ", ".join([*quantiles, f"longest {data.longest:,} tokens"])
    if data.template:
        yield "chat template", data.template
    evaluation = plan.facts.eval_data
    if evaluation is not None:
        yield (
            "evaluation",
            (
                f"{rows_of(evaluation.rows, evaluation.preference)}, "
                f"{number(evaluation.trained_tokens)} trained tokens"
            ),
        )


def _method(plan: Plan) -> Iterator[tuple[str, str]]:
    method, optim, train = plan.config.method, plan.config.optim, plan.config.train
    text = "supervised fine-tuning on answers"
    if method.kind == "dpo":
        text = (
            f"preference optimisation ({method.loss_type}), beta {method.beta:g}, reference "
            f"{method.reference.replace('_', ' ')}"
        )
    elif plan.config.data.train_on == "all":
        text = "supervised fine-tuning on every token"
    if method.label_smoothing:
        text += f", label smoothing {method.label_smoothing:g}"
    yield method.kind, text
    warmup = f"{optim.warmup:g} steps" if optim.warmup >= 1 else f"{100 * optim.warmup:g} %"
    clipping = f"clipped at {optim.max_grad_norm:g}" if optim.max_grad_norm else "not clipped"
    ratio = f", LoRA+ ratio {optim.loraplus_lr_ratio:g}" if optim.loraplus_lr_ratio != 1 else ""
    yield (
        "optimizer",
        (
            f"{optim.name}, learning rate {optim.learning_rate:g}{ratio} ({optim.schedule}, "
            f"warm-up {warmup}), weight decay {optim.weight_decay:g}, gradients {clipping}"
        ),
    )
    yield "seed", str(train.seed)


def _sample(page: _Page, plan: Plan) -> None:
    sample = plan.facts.data.sample
    if not sample:
        return
    page.section(f"One row as it is trained (loss between {MARKS[0]} and {MARKS[1]})")
    lines: list[str] = []
    for line in sample.splitlines():
        lines += _fold(line, page.width - 4)
    inside = False
    for line in lines[:SAMPLE_LINES]:
        page.lines.append("  " + page.paint("|", DIM) + " " + _marked(page, line, inside))
        inside = _ends_inside(line, inside)
    if len(lines) > SAMPLE_LINES:
        page.lines.append(f"  ... {len(lines) - SAMPLE_LINES} more lines")


def _fold(line: str, width: int) -> list[str]:
    """Cut a line into pieces of at most `width` columns, nothing lost."""
    clean = "".join(c if c.isprintable() else " " for c in line.expandtabs(4))
    pieces, current, used = [], "", 0
    for c in clean:
        wide = columns(c)
        if used + wide > width:
            pieces.append(current)
            current, used = "", 0
        current, used = current + c, used + wide
    return [*pieces, current]


def _marked(page: _Page, line: str, inside: bool) -> str:
    """Colour what lies between the marks."""
    if not page.colour:
        return line
    text = (GREEN if inside else "") + line
    text = text.replace(MARKS[0], GREEN + MARKS[0]).replace(MARKS[1], MARKS[1] + END)
    return text + END


def _ends_inside(line: str, inside: bool) -> bool:
    marks = re.findall(f"[{MARKS[0]}{MARKS[1]}]", line)
    return marks[-1] == MARKS[0] if marks else inside


def _decisions(page: _Page, plan: Plan) -> None:
    page.section("Decided for you")
    for name, decision in plan.decisions.items():
        value = decision.value if isinstance(decision.value, str) else shown(decision.value)
        page.pair(name, _reasoned(value, decision.reason))


def _reasoned(value: str, reason: str) -> str:
    """Value and reason, without saying the value twice."""
    if not reason:
        return value
    return reason if reason.startswith(f"{value}:") else f"{value}: {reason}"


def _memory(page: _Page, plan: Plan) -> None:
    budget = size(parse_bytes(plan.config.memory.budget))
    each = f", on each of {_places(plan)}" if plan.world_size > 1 else ""
    page.section(
        f"Memory at the peak of a step{each}: {size(plan.total)} expected, {budget} allowed"
    )
    widest = max(6, min(40, page.width - 30))
    largest = max(plan.memory.values(), default=0) or 1
    for term, count in plan.memory.items():
        bar = "█" * round(widest * count / largest)
        page.lines.append(f"  {term:<12} {size(count):>9}  {bar}".rstrip())


def _course(plan: Plan) -> Iterator[tuple[str, str]]:
    train, data = plan.config.train, plan.facts.data
    epochs = plan.steps / max(1, plan.steps_per_epoch)
    yield (
        "steps",
        (
            f"{plan.steps:,} of {rows_of(train.batch_size, data.preference)} each "
            f"({plan.steps_per_epoch:,} an epoch, {epochs:.3g} epochs)"
        ),
    )
    budget = plan.decided("token_budget")
    micro = f"{rows_of(int(train.micro_batch_size), data.preference)} at once"
    yield "micro-batch", f"up to {budget:,} tokens at once, packed" if budget else micro
    if plan.world_size > 1:
        yield "exchange", _exchange(plan)
    evaluation = f"every {train.eval_every} steps" if train.eval_every else "none"
    yield "evaluation", evaluation
    yield "checkpoints", f"every {train.save_every} steps, the newest {train.keep} kept"
    yield "trained tokens", number(plan.train_tokens)
    if plan.seconds:
        low, high = plan.seconds
        more = ", evaluations included" if train.eval_every else ""
        count = len(_earlier(plan))
        more += f", by {count} earlier run{'s' * (count > 1)} here" if count else ""
        place = _places(plan) if plan.world_size > 1 else plan.decided("device")
        yield "time", f"about {duration(low)} to {duration(high)} on {place}{more}"
    yield "disk", f"at most {size(plan.disk_bytes)}"


def _places(plan: Plan) -> str:
    """The devices of a run on several."""
    devices = plan.config.launch.devices
    if isinstance(devices, list) and devices:
        return f"GPUs {', '.join(map(str, devices))}"
    return f"{plan.world_size} processes on the CPU"


def _exchange(plan: Plan) -> str:
    """What the processes send each other in a step."""
    trained, count = plan.memory["gradients"] // 4, plan.world_size
    cuda = str(plan.decided("device")) != "cpu"
    low, high = (1000 * s for s in exchange.seconds(trained, count, cuda=cuda))
    sent = size(exchange.sent_bytes(trained, count))
    return (
        f"{sent} of gradients sent by each of {count} processes, {low:.2g} to {high:.2g} ms a step"
    )


def _earlier(plan: Plan) -> list[Speed]:
    """Speeds of runs on this device that the time is taken from."""
    machine, device = plan.facts.machine, str(plan.decided("device"))
    name = device_name(machine, device)
    dtype = str(plan.decided("compute_dtype"))
    precision = str(plan.config.model.precision)
    size_of = plan.facts.model.parameters
    return matching(machine.speeds, name, precision, dtype, size_of)
