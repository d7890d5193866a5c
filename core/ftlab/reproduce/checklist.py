"""What the reproducibility items of a paper's checklist ask, answered from the registry of runs.

Items of the NeurIPS paper checklist (4 to 8, 12) and of ACL's Responsible NLP checklist (B, C), by
their numbers and in our words. What no registry can know is listed, never made up. Standard library
only.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import manifest, rules, trash
from ftlab.configtext import flow
from ftlab.errors import ConfigError
from ftlab.estimate import trained_parameters
from ftlab.identity import NONE, NUMERICS
from ftlab.models.spec import DecoderSpec
from ftlab.plan import Plan
from ftlab.planning.types import sha256
from ftlab.progress import duration
from ftlab.reproduce import compare
from ftlab.reproduce.interval import CONFIDENCE, Estimate, estimate
from ftlab.reproduce.stats import SEEDED
from ftlab.reproduce.sweep import measured
from ftlab.reproduce.unbundle import came_in_one
from ftlab.run import Run

YES, NO, AUTHORS = "Yes", "No", "to be answered by the authors"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that are typed as they stand."""

    lines: tuple[str, ...]


Block = str | Table | Code


@dataclass(frozen=True, slots=True)
class Item:
    """One question and its answer."""

    title: str
    neurips: str  # numbers in the checklist, "" where it does not ask
    acl: str
    answer: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Reported runs that differ in nothing but their seeds."""

    settings: Mapping[str, Any]  # those in which it differs from the other groups
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate]

    @property
    def label(self) -> str:
        """The settings that make it this group."""
        return ", ".join(f"{k}={flow(v)}" for k, v in self.settings.items()) or "as above"


@dataclass(frozen=True, slots=True)
class Effort:
    """What all runs of a registry took."""

    states: Mapping[str, int]  # state -> runs
    discarded: int  # of them in the trash
    bundled: int  # of them unpacked from a bundle
    seconds: float
    gpu_hours: float

    @property
    def runs(self) -> int:
        """All of them."""
        return sum(self.states.values())


def items(runs: Sequence[Run], root: str) -> list[Item]:
    """Every item over the reported `runs`, which are done, and all runs in `root`.

    Raises:
        ConfigError: a run is not done or named twice, or one seed is there twice in a group.
    """
    if len({run.path for run in runs}) < len(runs):
        raise ConfigError(f"a run is named twice in {', '.join(run.id for run in runs)}")
    made = {run.path: compare.sealed(run) for run in runs}
    fields = [made[run.path]["identity"] for run in runs]
    found, all_of = groups(runs), effort(runs, root)
    return [
        _command(runs),
        _model(runs),
        _data(runs),
        _parameters(runs[0].plan(), fields, found),
        _results(found),
        _counted(runs, all_of),
        _compute(runs, made, all_of),
        _environment(fields),
        _unknown(),
    ]


def groups(runs: Sequence[Run]) -> list[Group]:
    """The runs by everything but their seeds, in the order given. Raises ConfigError."""
    numerics = {run.path: _numerics(run) for run in runs}
    keyed: dict[str, list[Run]] = {}
    for run in runs:
        keyed.setdefault(sha256(numerics[run.path]), []).append(run)
    differing = _differing([numerics[members[0].path] for members in keyed.values()])
    found = []
    for members in keyed.values():
        seeds = [run.plan().config.train.seed for run in members]
        if len(set(seeds)) < len(seeds):
            names = ", ".join(run.id for run in members)
            raise ConfigError(f"a seed is there twice in {names}; report one run of each seed")
        fields = numerics[members[0].path]
        settings = {name.removeprefix("config."): fields.get(name) for name in differing}
        found.append(Group(settings, tuple(members), tuple(seeds), _estimates(members)))
    return found


def effort(runs: Sequence[Run], root: str) -> Effort:
    """All runs in `root`, its trash, and the reported ones from elsewhere."""
    discarded = [Run(item.path) for item in trash.contents(root)]
    every = {run.path: run for run in (*Run.all(root), *discarded, *runs)}
    costs = [manifest.spent(run) for run in every.values()]
    return Effort(
        states=Counter(run.liveness() for run in every.values()),
        discarded=len(discarded),
        bundled=sum(came_in_one(run) for run in every.values()),
        seconds=sum(seconds for seconds, _ in costs),
        gpu_hours=sum(hours for _, hours in costs),
    )


def _numerics(run: Run) -> dict[str, Any]:
    return {
        name: field.get("value")
        for name, field in compare.sealed(run)["identity"].items()
        if field.get("class") == NUMERICS and name not in SEEDED
    }


def _differing(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for one in fields for name in one)
    return [name for name in names if any(one.get(name) != fields[0].get(name) for one in fields)]


def _estimates(runs: Sequence[Run]) -> dict[str, Estimate]:
    figures = [measured(run) for run in runs]
    shared = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: estimate([one[name] for one in figures]) for name in shared}


def _command(runs: Sequence[Run]) -> Item:
    words = [("train", str(run.config_path)) for run in runs]
    train = Code(tuple(shlex.join(("ftrun", *word)) for word in words))
    again = Code(tuple(f"ftrun reproduce {run.id}" for run in runs))
    return Item(
        "Exact commands", "4, 5", "C2", YES,
        ("Each run was trained from the config that lies in it:", train,
         "Run again with every choice as it was, and judged bit for bit:", again),
    )  # fmt: skip


def _model(runs: Sequence[Run]) -> Item:
    rows = dict.fromkeys(_model_row(run.plan()) for run in runs)
    header = ("model", "revision", "architecture", "parameters", "trained", "weights sha256")
    return Item("Models and their size", "6", "C1", YES, (Table(header, tuple(rows)),))


def _model_row(plan: Plan) -> tuple[str, ...]:
    model = plan.facts.model
    try:
        count = trained_parameters(DecoderSpec.from_dict(model.spec), plan.config.adapter)
        trained = f"{count:,}"
    except (KeyError, TypeError, ValueError):  # a description of another version
        trained = "unknown"
    weights = model.hashes.get("weights", "")[:16] or "not local"
    revision = model.revision or "a local folder"
    return model.name, revision, model.architecture, f"{model.parameters:,}", trained, weights


def _data(runs: Sequence[Run]) -> Item:
    rows: dict[tuple[str, ...], None] = {}
    for plan in (run.plan() for run in runs):
        for use, data in (("training", plan.facts.data), ("evaluation", plan.facts.eval_data)):
            if data is not None:
                skipped = sum(data.skipped.values())
                counts = (data.rows, skipped, data.tokens, data.trained_tokens)
                figures = tuple(f"{count:,}" for count in counts)
                rows[use, data.source, *figures, data.sha256[:16]] = None
    header = ("use", "source", "rows", "left out", "tokens", "with loss", "tokens sha256")
    return Item("Data and splits", "6", "B6", YES, (Table(header, tuple(rows)),))


def _parameters(plan: Plan, fields: Sequence[Mapping[str, Any]], found: Sequence[Group]) -> Item:
    """Settings that can change a result; what tells groups apart is in the table of results."""
    apart = {name for group in found for name in group.settings} | {"train.seed"}
    silent, rows = rules.inactive(plan.config), []
    for name, field in fields[0].items():
        path = name.removeprefix("config.")
        counts = name.startswith("config.") and field.get("class") != NONE
        if not counts or path in apart or path in silent:
            continue
        values = dict.fromkeys(flow(_value(one, name)) for one in fields)
        chosen = plan.decisions.get(path)
        by = f"automatic: {chosen.reason}" if chosen else "set or default"
        rows.append((path, " or ".join(values), by))
    table = Table(("setting", "value", "chosen"), tuple(rows))
    return Item("Training details and hyperparameters", "6", "C2", YES, (table,))


def _results(found: Sequence[Group]) -> Item:
    rows = []
    for group in found:
        seeds = ", ".join(map(str, group.seeds))
        for metric, made in group.metrics.items():
            rows.append((group.label, metric, str(made.n), seeds, *made.figures()))
        if not group.metrics:
            rows.append((group.label, "not evaluated", str(len(group.runs)), seeds, "-", "-", "-"))
    several = all(group.metrics and len(group.runs) > 1 for group in found)
    interval = f"{100 * CONFIDENCE:.0f} % interval"
    table = Table(("settings", "metric", "n", "seeds", "mean", "sd", interval), tuple(rows))
    told = (
        "Mean over runs that differ in their seeds alone, which fix data order, adapter start and "
        "dropout; sd with n - 1; interval by Student's t with n - 1 degrees of freedom, meant for "
        "figures that are about normal. Each figure is of the evaluation at a run's last step."
    )
    alone = () if several else ("Without several seeds there is no error bar: `ftrun sweep`.",)
    return Item("Results and error bars", "7", "C3", YES if several else NO, (table, told, *alone))


def _counted(runs: Sequence[Run], all_of: Effort) -> Item:
    states = ("done", "failed", "stopped", "lost", "running", "stalled", "planned")
    rows = tuple((state, str(all_of.states[state])) for state in states if all_of.states.get(state))
    told = (
        f"Runs that were made: {all_of.runs}; of them reported: {len(runs)}, thrown away but "
        f"counted: {all_of.discarded}, from bundles: {all_of.bundled}. Runs that were deleted for "
        "good, or made in another folder, are not known here."
    )
    return Item("Number of runs", "8", "C2, C3", YES, (Table(("state", "runs"), rows), told))


def _compute(runs: Sequence[Run], made: Mapping[Path, Mapping[str, Any]], all_of: Effort) -> Item:
    rows, reported = [], 0.0
    for run in runs:
        identity, (seconds, hours) = made[run.path]["identity"], manifest.spent(run)
        reported += hours
        machine, energy = run.plan().facts.machine, made[run.path].get("energy_joules")
        rows.append((
            run.id, _hardware(identity), f"{machine.memory_bytes / 2**30:.0f} GiB",
            duration(seconds), f"{hours:.2f}",
            f"{energy / 3.6e6:.3f} kWh" if isinstance(energy, (int, float)) else "not measured",
        ))  # fmt: skip
    header = ("run", "device", "memory", "time", "GPU-hours", "energy")
    told = (
        f"GPU-hours of the reported runs: {reported:.2f}; of all runs, failed ones included: "
        f"{all_of.gpu_hours:.2f}, in {all_of.seconds / 3600:.2f} hours of wall time."
    )
    return Item("Compute", "8", "C1", YES, (Table(header, tuple(rows)), told))


def _hardware(identity: Mapping[str, Any]) -> str:
    device = str(_value(identity, "decision.device") or "")
    names = _value(identity, "gpu.name") or ()
    if device.startswith("cuda") and names:
        return f"{', '.join(names)} (driver {_value(identity, 'driver')})"
    return f"{_value(identity, 'cpu')}, {_value(identity, 'cpu.threads')} threads"


def _environment(fields: Sequence[Mapping[str, Any]]) -> Item:
    names = [n for n in fields[0] if n.startswith("version.")]
    names += ["image.digest", "lock.sha256", "git.commit", "ftlab.source_sha256"]
    rows = []
    for name in names:
        values = dict.fromkeys(str(_value(one, name) or "-") for one in fields)
        rows.append((name, ", ".join(values)))
    told = "The lock pins every package by hash; `ftrun bundle` puts it into one file with the run."
    return Item(
        "Software", "5", "C4", YES, (Table(("package or hash", "value"), tuple(rows)), told)
    )


def _unknown() -> Item:
    return Item(
        "Not in the registry", "5, 6, 12", "B1, B2, C2", AUTHORS,
        tuple(_questions()),
    )  # fmt: skip


def _questions() -> Iterator[str]:
    yield "Licences of model and data, and whom to cite for them."
    yield "Where readers get code, data and bundles."
    yield "Which settings were tried, within which bounds, and how the reported ones were picked."


def _value(fields: Mapping[str, Any], name: str) -> Any:
    field = fields.get(name)
    return field.get("value") if isinstance(field, Mapping) else None
