"""The runs of a sweep: every point of a grid with every seed, each under a name of its own.

A run is named by a hash of the settings that define it and by its seed. So a sweep needs no state
of its own: asked for again, it finds by their names the runs that are done and those to go on with,
and more seeds or more points only add runs. Standard library only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import registry, yamltext
from ftlab.configtext import flow
from ftlab.errors import ConfigError, Problem
from ftlab.plan import Plan
from ftlab.planning.identity import HARMLESS
from ftlab.planning.types import sha256
from ftlab.reproduce.interval import Estimate, estimate
from ftlab.reproduce.stats import last_evaluation
from ftlab.run import Run
from ftlab.schema import RunConfig

SEED = "train.seed"
LARGEST_SEED = 2**32 - 1
MOST = 1000  # runs of one sweep
Point = tuple[tuple[str, Any], ...]  # (setting, value) of each key of the grid, in its order


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a sweep."""

    point: Point
    seed: int
    name: str
    config: RunConfig
    text: str  # of config.yaml


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task stands: state of its run ("absent" without one) and its last evaluation."""

    task: Task
    state: str
    metrics: Mapping[str, float]


def seeds(text: str) -> list[int] | int:
    """--seeds: a list such as 1,2,3 (or 7, for one), or how many.

    Raises:
        ConfigError: neither.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--seeds takes a number such as 5 or a list such as 1,2,3, not {text!r}")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if not 1 <= numbers[0] <= MOST:
            raise ConfigError(f"--seeds takes 1 to {MOST} seeds, not {numbers[0]}")
        return numbers[0]
    if max(numbers) > LARGEST_SEED:
        raise ConfigError(f"a seed is at most {LARGEST_SEED}, not {max(numbers)}")
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds {text} names a seed twice")
    return numbers


def from_base(chosen: list[int] | int, base: int) -> list[int]:
    """The seeds themselves: where only their number was given, the config's own and those after."""
    if isinstance(chosen, list):
        return chosen
    return [(base + i) % (LARGEST_SEED + 1) for i in range(chosen)]


def grid(options: Sequence[str]) -> list[Point]:
    """Every combination of the values of `key=v1,v2` options, the last one varying fastest.

    Raises:
        ConfigError: every option that is not of that form.
    """
    axes: dict[str, list[Any]] = {}
    problems: list[Problem] = []
    for option in options:
        key, equals, text = (part.strip() for part in option.partition("="))
        try:
            values = yamltext.read(f"[{text}]", f"--grid {key}").value if key and equals else []
        except ConfigError as error:
            problems += error.problems
            continue
        if problem := _wrong(option, key, values, key in axes):
            problems.append(problem)
        axes[key] = values
    if problems:
        raise ConfigError(problems)
    columns = [[(key, value) for value in values] for key, values in axes.items()]
    return list(itertools.product(*columns))


def _wrong(option: str, key: str, values: Sequence[Any], again: bool) -> Problem | None:
    if not values:
        return Problem("", f"cannot use --grid {option!r}", "write --grid section.setting=v1,v2")
    if key == SEED:
        return Problem(key, "seeds are not part of the grid", "use --seeds 1,2,3")
    if again:
        return Problem(key, "is in the grid twice", "give all its values at once: key=v1,v2,v3")
    texts = [flow(value) for value in values]
    if len(set(texts)) < len(texts):
        return Problem(key, f"has a value twice in --grid {option}")
    return None


def overrides(point: Point) -> list[str]:
    """The point as `a.b=c` for `config.apply_overrides`."""
    return [f"{key}={flow(value)}" for key, value in point]


def run_name(prefix: str, config: RunConfig) -> str:
    """The name of the run of a config as it was asked for, "auto" included.

    Raises:
        ConfigError: `prefix` makes it no name for a folder.
    """
    defining = {
        f"{section}.{name}": value
        for section, values in config.to_dict().items()
        for name, value in values.items()
        if section != "launch" and f"{section}.{name}" not in HARMLESS | {SEED}
    }
    name = f"{prefix}-{sha256(defining)[:10]}-s{config.train.seed}"
    if not registry.is_name(name):
        raise ConfigError(
            f"--name {prefix!r} must be letters, digits, '.', '_' or '-', at most 70, beginning "
            "with a letter or digit"
        )
    return name


def check_evaluated(config: RunConfig) -> None:
    """Refuse a config that measures nothing. Raises ConfigError."""
    data = config.data
    if data.eval_source is None and not data.eval_fraction:
        hint = "set data.eval_fraction=0.05, or data.eval_source"
        raise ConfigError([Problem("data.eval_fraction", "a sweep compares evaluations", hint)])
    if config.train.eval_every == 0:
        hint = "leave it at auto; the last step is always evaluated"
        raise ConfigError([Problem("train.eval_every", "0 measures nothing to compare", hint)])


def check_same(run: Run, plan: Plan) -> None:
    """Refuse a run of this name that was made from another model or other data.

    Raises:
        ConfigError: with what differs.
    """
    was, now = run.plan(), plan
    pairs = {
        "the model": (was.facts.model.hashes, now.facts.model.hashes),
        "the model's revision": (was.facts.model.revision, now.facts.model.revision),
        "the data": (was.facts.data.sha256, now.facts.data.sha256),
        "the evaluation data": tuple(
            facts.eval_data.sha256 if facts.eval_data else None for facts in (was.facts, now.facts)
        ),
        "the number of steps": (was.steps, now.steps),
    }
    changed = [name for name, (one, other) in pairs.items() if one != other]
    if changed:
        raise ConfigError(
            f"run {run.id} of this sweep was planned before {' and '.join(changed)} changed; give "
            "the sweep another --name, or move that run away"
        )


def outcome(task: Task, root: str | Path) -> Outcome:
    """How a task stands on the disk."""
    run = Run(Path(root) / task.name)
    if not run.plan_path.is_file():
        return Outcome(task, "absent", {})
    state = run.liveness()
    return Outcome(task, state, measured(run) if state == "done" else {})


def measured(run: Run) -> dict[str, float]:
    """The figures of the evaluation at the last step; {} without one. Counts are no figures."""
    event = last_evaluation(run)
    return {k: v for k, v in event.items() if isinstance(v, float) and k not in ("t", "epoch")}


def estimates(outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """Metric -> estimate over the runs of one point that are done."""
    names = dict.fromkeys(name for found in outcomes for name in found.metrics)
    return {
        name: estimate([found.metrics[name] for found in outcomes if name in found.metrics])
        for name in names
    }


def by_point(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by their point, in the order of the grid."""
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(" ".join(overrides(one.task.point)), []).append(one)
    return found


def rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """Lines of the table: settings of the grid, metric, runs, mean, sd, interval."""
    for group in by_point(outcomes).values():
        point = [flow(value) for _, value in group[0].task.point]
        found = estimates(group)
        if not found:
            yield (*point, "-", f"0 of {len(group)}", "-", "-", "-")
        for metric, made in found.items():
            yield (*point, metric, f"{made.n} of {len(group)}", *made.figures())


def to_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "version": 1,
        "runs": len(outcomes),
        "done": sum(one.state == "done" for one in outcomes),
        "failed": sum(one.state in ("failed", "lost") for one in outcomes),
        "points": [
            {
                "grid": dict(group[0].task.point),
                "metrics": {name: made.to_json() for name, made in estimates(group).items()},
                "runs": [
                    {"run": one.task.name, "seed": one.task.seed, "state": one.state,
                     "metrics": dict(one.metrics)}
                    for one in group
                ],
            }
            for group in by_point(outcomes).values()
        ],
    }  # fmt: skip
