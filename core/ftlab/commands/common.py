"""What several commands share: options, reading a config, making a plan, tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ftlab.atomic import plain
from ftlab.errors import ConfigError, EnvironmentUnfit, TryLater
from ftlab.run import Run

if TYPE_CHECKING:
    from ftlab.facts import Machine
    from ftlab.plan import Plan
    from ftlab.schema import RunConfig


def runs_option(parser: argparse.ArgumentParser) -> None:
    """--runs-dir: where runs lie."""
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        default=os.environ.get("FTLAB_RUNS") or "runs",
        help="folder of the runs (default: $FTLAB_RUNS, else ./runs)",
    )


def run_argument(parser: argparse.ArgumentParser) -> None:
    """RUN and --runs-dir."""
    parser.add_argument(
        "run", metavar="RUN", help='id of a run, a unique part of it, its path, or "last"'
    )
    runs_option(parser)


def json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """--json: the result for a machine."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, --set and the shorthands."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help='YAML file, or "-" for standard input'
    )
    parser.add_argument(
        "--set",
        metavar="A.B=C",
        action="append",
        default=[],
        dest="overrides",
        help="change one setting, such as optim.learning_rate=1e-4; may be repeated",
    )
    parser.add_argument("--model", metavar="NAME", help="short for --set model.name=NAME")
    parser.add_argument("--data", metavar="SOURCE", help="short for --set data.source=SOURCE")
    parser.add_argument("--method", metavar="KIND", help="short for --set method.kind=KIND")
    parser.add_argument(
        "--devices",
        metavar="N|LIST",
        help="GPUs to train on: how many (2), which (0,1 or [0]), cpu, or auto",
    )


def find(args: argparse.Namespace) -> Run:
    """The run that the arguments mean."""
    return Run.find(args.run, args.runs_dir)


def read_config(args: argparse.Namespace) -> tuple[RunConfig, str]:
    """The config that the arguments mean, and its text as a person wrote it or would write it.

    Raises:
        ConfigError: neither a file nor a model and data were given, or the config is wrong.
    """
    return config_reader(args)([])


def config_reader(
    args: argparse.Namespace,
) -> Callable[[Sequence[str]], tuple[RunConfig, str]]:
    """`read_config` with more overrides, as often as is wanted: standard input is read once."""
    given = sys.stdin.read() if args.config == "-" else None

    def read(more: Sequence[str]) -> tuple[RunConfig, str]:
        return _read_config(args.config, given, [*_shorthands(args), *args.overrides, *more])

    return read


def _read_config(
    path: str | None, given: str | None, overrides: Sequence[str]
) -> tuple[RunConfig, str]:
    from ftlab import config, configtext

    if path is None:
        if not overrides:
            raise ConfigError(
                "no config: give a YAML file (`ftrun init > run.yaml` writes one), "
                "or --model NAME --data SOURCE"
            )
        asked = config.from_mapping(config.apply_overrides({}, overrides))
        return asked, configtext.dump(asked)
    if given is None:
        asked = config.load(path, overrides)
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    else:
        asked, text = config.parse(given, "standard input", overrides), given
    return asked, configtext.dump(asked) if overrides else text


def make_plan(config: RunConfig, runs_dir: str, machine: str | None = None) -> Plan:
    """Look at machine, model and data, and decide everything.

    Args:
        machine: a file with the facts of another machine, which the plan is then for.

    Raises:
        TryLater: the plan is for another machine, and model or data cannot be had on this one.
    """
    from dataclasses import replace

    from ftlab import plan, probe

    if machine is None:
        return plan.resolve(config, probe.collect(config, runs_dir=runs_dir))
    other = _machine(machine)
    try:
        facts = probe.collect(config, runs_dir=runs_dir)
    except EnvironmentUnfit as error:
        raise TryLater(
            f"nothing is planned, since this computer cannot read it: {error}"
        ) from error
    return plan.resolve(config, replace(facts, machine=other))


def _machine(path: str) -> Machine:
    """Facts of a machine from a JSON file. Raises ConfigError where it holds none."""
    from ftlab.facts import Machine, from_json

    try:
        with open(path, encoding="utf-8") as file:
            return from_json(Machine, json.load(file))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"--machine {path} holds no facts of a machine: {error}") from error


def plan_text(plan: Plan, stream: TextIO) -> str:
    """The plan for people, as wide and as colourful as the stream takes it."""
    from ftlab.plan import render
    from ftlab.progress import width

    colour = stream.isatty() and not os.environ.get("NO_COLOR")
    return render(plan, min(width(stream), 120), colour=colour)


def say(text: str) -> None:
    """Narrate on stderr."""
    print(text, file=sys.stderr, flush=True)


def put_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a JSON value on stdout."""
    print(json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False), flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text under a header; the last column is not padded."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _devices(text: str | None) -> Any:
    """What --devices means as a value of launch.devices; what it cannot mean stays text."""
    if text is None:
        return None
    words = text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
    if text.strip().lower() in ("cpu", "[]", "none"):
        return []
    if not words or not all(word.isdecimal() for word in words):
        return text
    listed = len(words) > 1 or "[" in text or "," in text
    return [int(word) for word in words] if listed else int(words[0])


def _shorthands(args: argparse.Namespace) -> list[str]:
    from ftlab.configtext import flow

    given = {
        "model.name": args.model, "data.source": args.data, "method.kind": args.method,
        "launch.where": getattr(args, "where", None),
        "launch.devices": _devices(args.devices),
    }  # fmt: skip
    return [f"{path}={flow(value)}" for path, value in given.items() if value is not None]
