"""Cross-field rules of a config: combinations that make no sense, and settings without effect.

Pure: a RunConfig in, problems out, no file and no device. A setting that would be ignored is
refused when a person gave it. Every entry of the two tables has a failing and a passing test case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ftlab.data.formats import SHAPES
from ftlab.errors import ConfigError, Problem
from ftlab.inactive import INACTIVE
from ftlab.schema import RunConfig, settings
from ftlab.values import nearest, parse_bytes

ROPE_KEYS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "longrope": ("short_factor", "long_factor"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination that is refused: `check` gives the message, or None when all is well."""

    name: str
    path: str  # where the problem is reported
    reads: tuple[str, ...]
    check: Callable[[RunConfig], str | None]
    hint: str = ""


def check(
    config: RunConfig,
    given: Collection[str] | None = None,
    broken: Collection[str] = (),
) -> tuple[Problem, ...]:
    """Every broken rule.

    Args:
        config: the config.
        given: dotted paths a person wrote; None means every setting that is not at its default.
        broken: paths (or whole sections) already known to be wrong; rules that read them are
            skipped, because their value is not what the person meant.
    """
    if given is None:
        given = changed(config)
    problems = []
    for entry in INACTIVE:
        if _usable(entry.reads, broken) and entry.when(config):
            problems += [
                Problem(path, f"has no effect: {entry.reason}", "delete it")
                for path in entry.paths
                if path in given and path not in broken
            ]
    for rule in RULES:
        message = rule.check(config) if _usable((rule.path, *rule.reads), broken) else None
        if message:
            problems.append(Problem(rule.path, message, rule.hint))
    return tuple(problems)


def require(config: RunConfig, given: Collection[str] | None = None) -> None:
    """Raise ConfigError with every broken rule; do nothing when there is none."""
    problems = check(config, given)
    if problems:
        raise ConfigError(problems)


def inactive(config: RunConfig) -> dict[str, str]:
    """Settings without effect in this config, each with the reason."""
    return {path: e.reason for e in INACTIVE if e.when(config) for path in e.paths}


def changed(config: RunConfig) -> frozenset[str]:
    """Paths whose value is not the default."""
    return frozenset(s.path for s in settings() if value_of(config, s.path) != s.default)


def value_of(config: RunConfig, path: str) -> Any:
    """The value at a dotted path such as "optim.learning_rate"."""
    section, name = path.split(".")
    return getattr(getattr(config, section), name)


def _usable(paths: tuple[str, ...], broken: Collection[str]) -> bool:
    return not any(path in broken or path.split(".")[0] in broken for path in paths)


def _where(c: RunConfig) -> str | None:
    if c.launch.where in ("local", "docker"):
        return None
    return f"{c.launch.where} is not available in this version; allowed: local, docker"


def _size(text: str | None) -> str | None:
    try:
        return None if text is None or parse_bytes(text) > 0 else "it must be more than nothing"
    except ValueError as error:
        return str(error)


def _devices(c: RunConfig) -> str | None:
    devices = c.launch.devices
    if devices == "auto" or isinstance(devices, int):
        return None
    if any(index < 0 for index in devices):
        return f"GPU indices start at 0, got {devices}"
    if len(set(devices)) < len(devices):
        return f"each GPU trains once, got {devices}"
    return None


def _processes(c: RunConfig) -> str | None:
    if c.launch.processes == 1 or c.launch.devices == []:
        return None
    return f"{c.launch.processes} processes share the CPU, and launch.devices is not []"


def _shares(c: RunConfig) -> str | None:
    """Every process needs a row of each step."""
    devices = c.launch.devices
    count = len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices
    count = max(count, c.launch.processes)
    if c.train.batch_size >= count:
        return None
    return f"{c.train.batch_size} rows of a step cannot be shared by {count} processes"


def _eval_twice(c: RunConfig) -> str | None:
    if c.data.eval_source is None or c.data.eval_fraction == 0:
        return None
    return "data.eval_source is given as well; only one of them can be the evaluation data"


def _warmup_whole(c: RunConfig) -> str | None:
    if c.optim.warmup < 1 or c.optim.warmup.is_integer():
        return None
    return f"from 1 on it is a whole number of steps, got {c.optim.warmup:g}"


def _warmup_length(c: RunConfig) -> str | None:
    steps = c.train.max_steps
    if steps is None or c.optim.warmup < 1 or c.optim.warmup < steps:
        return None
    return (
        f"{c.optim.warmup:g} steps of warm-up leave nothing of the run: train.max_steps is {steps}"
    )


def _within_max_steps(name: str) -> Callable[[RunConfig], str | None]:
    def rule(c: RunConfig) -> str | None:
        every, steps = getattr(c.train, name), c.train.max_steps
        if steps is None or every == "auto" or every <= steps:
            return None
        return f"{every} steps are more than the whole run: train.max_steps is {steps}"

    return rule


def _keep(c: RunConfig) -> str | None:
    every, steps = c.train.save_every, c.train.max_steps
    if c.train.keep == RunConfig().train.keep or every == "auto" or steps is None:
        return None
    written = -(-steps // every)
    if c.train.keep <= written:
        return None
    return f"only {written} checkpoint(s) are written: one per {every} of {steps} steps"


def _micro_batch(c: RunConfig) -> str | None:
    micro = c.train.micro_batch_size
    if micro == "auto" or micro <= c.train.batch_size:
        return None
    return f"{micro} rows at once are more than train.batch_size ({c.train.batch_size})"


def _quantised_full(c: RunConfig) -> str | None:
    if c.adapter.kind == "lora" or c.model.precision not in ("nf4", "int8"):
        return None
    return f"{c.model.precision} weights are frozen, and adapter.kind none trains every weight"


def _reference(c: RunConfig) -> str | None:
    if c.method.kind != "dpo" or c.method.reference != "adapter_off" or c.adapter.kind == "lora":
        return None
    return "there is no adapter to switch off: adapter.kind is none"


def _format_fits(c: RunConfig) -> str | None:
    kind, form = c.method.kind, c.data.format
    if form == "auto" or (kind == "dpo") == (form == "preference"):
        return None
    if kind == "dpo":
        return f"dpo learns from pairs (format: preference), got {form}"
    return f"sft learns from single answers, and {form} rows are not that"


def _train_on(c: RunConfig) -> str | None:
    if c.method.kind != "dpo" or c.data.train_on == "completions":
        return None
    return "dpo compares answers, so only their tokens carry loss; use completions"


def _column_roles(c: RunConfig) -> str | None:
    form = c.data.format
    roles = roles_of(form)
    unknown = [role for role in c.data.columns if role not in roles]
    if not unknown:
        return None
    close = nearest(unknown[0], roles)
    guess = f"; did you mean {close}?" if close else ""
    names = ", ".join(map(repr, unknown))
    return f"no such role for format {form}: {names}; roles are {', '.join(roles)}{guess}"


def roles_of(form: str) -> tuple[str, ...]:
    """Roles that rows of a format may have; with "auto", those of any format."""
    shapes = [shape for shape in SHAPES if form in ("auto", shape.format)]
    return tuple(dict.fromkeys(role for shape in shapes for role in (*shape.needs, *shape.may)))


def _column_names(c: RunConfig) -> str | None:
    seen: dict[str, str] = {}
    for role, column in c.data.columns.items():
        if not column.strip():
            return f"the column for {role!r} is empty"
        if column in seen:
            return f"column {column!r} is used for both {seen[column]!r} and {role!r}"
        seen[column] = role
    return None


def _targets(c: RunConfig) -> str | None:
    return _names(c.adapter.target_modules, "an adapter needs at least one projection")


def _saved_modules(c: RunConfig) -> str | None:
    targets = c.adapter.target_modules
    both = [m for m in c.adapter.modules_to_save if m in targets and targets != "all-linear"]
    if both:
        return f"{both[0]!r} is in adapter.target_modules too; it gets an adapter or is trained"
    return _names(c.adapter.modules_to_save, "")


def _names(names: str | list[str], empty: str) -> str | None:
    if isinstance(names, str):
        return None
    if not names and empty:
        return empty
    repeated = next((n for n in names if names.count(n) > 1), None)
    if repeated is not None:
        return f"{repeated!r} is listed twice"
    return "a name is empty" if any(not name.strip() for name in names) else None


def _rope(c: RunConfig) -> str | None:
    scaling = c.model.rope_scaling
    if not isinstance(scaling, dict):
        return None
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind not in ROPE_KEYS:
        got = "none" if kind is None else repr(kind)
        return f"rope_type must be one of {', '.join(ROPE_KEYS)}, got {got}"
    missing = [key for key in ROPE_KEYS[kind] if key not in scaling]
    if missing:
        return f"{kind} scaling also needs {', '.join(missing)}"
    for key in ("factor", "low_freq_factor", "high_freq_factor"):
        value = scaling.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            return f"{key} must be a number above 0, got {value!r}"
    return None


RULES: tuple[Rule, ...] = (
    Rule("where-available", "launch.where", (), _where),
    Rule("devices", "launch.devices", (), _devices),
    Rule(
        "processes",
        "launch.processes",
        ("launch.devices",),
        _processes,
        "set launch.devices: [], or give the GPUs by launch.devices alone",
    ),
    Rule(
        "shares",
        "train.batch_size",
        ("launch.devices", "launch.processes"),
        _shares,
        "raise train.batch_size, or train on fewer devices",
    ),
    Rule("shm-size", "launch.shm_size", (), lambda c: _size(c.launch.shm_size), "such as 1GiB"),
    Rule("memory-limit", "launch.memory", (), lambda c: _size(c.launch.memory), "such as 32GiB"),
    Rule("eval-once", "data.eval_fraction", ("data.eval_source",), _eval_twice, "delete one"),
    Rule("warmup-whole", "optim.warmup", (), _warmup_whole),
    Rule("warmup-length", "optim.warmup", ("train.max_steps",), _warmup_length),
    *(
        Rule(
            f"{name.replace('_', '-')}-within-run",
            f"train.{name}",
            ("train.max_steps",),
            _within_max_steps(name),
            "lower it or raise train.max_steps",
        )
        for name in ("log_every", "eval_every", "save_every")
    ),
    Rule("keep", "train.keep", ("train.save_every", "train.max_steps"), _keep),
    Rule("micro-batch", "train.micro_batch_size", ("train.batch_size",), _micro_batch),
    Rule(
        "quantised-full",
        "model.precision",
        ("adapter.kind",),
        _quantised_full,
        "use adapter.kind: lora, or bf16, fp16 or fp32",
    ),
    Rule(
        "reference",
        "method.reference",
        ("adapter.kind", "method.kind"),
        _reference,
        "use precomputed",
    ),
    Rule(
        "format-fits-method",
        "data.format",
        ("method.kind",),
        _format_fits,
        "to train on one column of such rows use format: prompt_completion with columns",
    ),
    Rule("train-on-dpo", "data.train_on", ("method.kind",), _train_on),
    Rule("column-roles", "data.columns", ("data.format",), _column_roles),
    Rule("column-names", "data.columns", (), _column_names),
    Rule("targets", "adapter.target_modules", (), _targets),
    Rule("saved-modules", "adapter.modules_to_save", ("adapter.target_modules",), _saved_modules),
    Rule("rope-scaling", "model.rope_scaling", (), _rope),
)


def table() -> tuple[str, ...]:
    """The name of every rule, for the test that counts their cases."""
    return (*(entry.name for entry in INACTIVE), *(rule.name for rule in RULES))
