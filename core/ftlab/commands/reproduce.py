"""Run a finished run again, and say whether it gives the same bits.

RUN may be the file of a bundle: it is checked, unpacked beside the other runs, and run again with
model and data where its config names them, or where --set says they lie here.

The same config with every automatic choice as it was made then, the same model and data by their
hashes. Where something differs that can change the result, the verdict INCOMPARABLE is given before
a step is made. Exit code 0 for BITWISE and NUMERIC, 4 for any other verdict; the new run stays,
with the verdict in its reproduce.json.

--trace STEP runs to that step and keeps a hash of every tensor that it makes, layer by layer: where
RUN has such a trace too, the first tensor that differs is named. A run whose bits came again gets
the trace that was made here, and a bundle carries it.

NUMERIC (the curves stay within what rounding does to this run) needs to know what rounding does:
--calibrate N runs it N times with another order of sums first, and keeps that in its noise.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftlab import atomic, launch, probe, registry
from ftlab.commands import common, tracing
from ftlab.commands.watch import watch
from ftlab.errors import ConfigError
from ftlab.facts import Facts
from ftlab.interrupts import Interrupts
from ftlab.plan import Plan
from ftlab.reproduce import compare, noise, rerun, text, unbundle, verdict
from ftlab.reproduce.verdict import Verdict
from ftlab.run import Run
from ftlab.schema import RunConfig


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run", metavar="RUN", help='id of a run, a unique part of it, its path, "last", or a bundle'
    )
    common.runs_option(parser)
    parser.add_argument("--name", metavar="ID", help="name of the new run (default: made up)")
    parser.add_argument(
        "--in", metavar="WHERE", dest="where", choices=("local", "docker"),
        help="run it on this machine or in a container (default: as the original)",
    )  # fmt: skip
    parser.add_argument(
        "--set",
        metavar="A.B=C",
        action="append",
        default=[],
        dest="overrides",
        help="where model and data lie now, such as model.name=DIR; never another setting",
    )
    parser.add_argument(
        "--calibrate",
        metavar="N",
        type=int,
        default=0,
        help="measure the noise floor first, by N runs (2 or more) with another order of sums",
    )
    parser.add_argument(
        "--trace", metavar="STEP", type=int, default=0,
        help="run to STEP and name the first tensor that differs in it; no verdict",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="do not print the plan")
    common.json_option(parser, "the verdict")


def main(args: argparse.Namespace) -> int:
    """Run again and judge; 0, 4, or the exit code of a run that failed."""
    original = _original(args)
    compare.sealed(original)
    asked = rerun.config_again(original, args.overrides, args.where)
    if unbundle.came_in_one(original):
        rerun.check_foreign(asked, args.overrides, args.where)
    launch.check(asked.launch.where)
    registry.check(args.runs_dir, args.name)

    def collect(config: RunConfig) -> Facts:
        with rerun.naming_needs(original):
            return probe.collect(config, runs_dir=args.runs_dir)

    plan = rerun.plan_again(original, asked, collect)
    if found := rerun.hopeless(original, plan):
        return _tell(found, args)
    with Interrupts() as interrupts:
        if args.trace:
            return tracing.trace(original, plan, args, interrupts)
        if args.calibrate:
            code = _calibrate(original, asked, collect, args, interrupts)
            if code:
                return code
        again, code = _run(plan, args, args.name, f"reproduces {original.id}", interrupts)
    if code:
        return code
    found = verdict.judge(original, again)
    entry = {**found.to_json(), "original": str(original.path)}
    atomic.write_json(again.path / "reproduce.json", entry)
    return _tell(found, args)


def _original(args: argparse.Namespace) -> Run:
    """The run that is meant; one in a bundle is unpacked first."""
    path = Path(args.run)
    if not path.is_file():
        return common.find(args)
    run, made = unbundle.unpack(path, args.runs_dir)
    common.say(
        f"bundle {path} is whole; it {'is now' if made else 'holds'} run {run.id}: {run.path}"
    )
    return run


def _calibrate(
    original: Run,
    asked: RunConfig,
    collect: rerun.Collect,
    args: argparse.Namespace,
    interrupts: Interrupts,
) -> int:
    """Run the variants and keep the floor; 0, or the exit code of a run that did not end well."""
    variants = list(noise.variants(original.plan()))
    if not 2 <= args.calibrate <= len(variants):
        raise ConfigError(
            f"--calibrate takes 2 to {len(variants)} for {original.id}, not {args.calibrate}: "
            "so many other orders of sums it has"
        )
    made = []
    for variant in variants[: args.calibrate]:
        plan = rerun.plan_again(original, asked, collect, variant)
        told = f"calibrates {original.id} with {variant}"
        run, code = _run(plan, args, None, told, interrupts)
        if code:
            return code
        made.append((run, str(variant)))
    noise.save(original, noise.measure(original, made))
    return 0


def _run(
    plan: Plan, args: argparse.Namespace, name: str | None, told: str, interrupts: Interrupts
) -> tuple[Run, int]:
    """One run to its end, and its exit code."""
    if not args.quiet and not args.json:
        common.say(common.plan_text(plan, sys.stderr))
    run = Run.create(plan, args.runs_dir, name)
    launch.start(run)
    common.say(f"run {run.id} {told}: {run.path}")
    return run, watch(run, interrupts, as_json=False)


def _tell(found: Verdict, args: argparse.Namespace) -> int:
    if args.json:
        common.put_json(found.to_json())
    else:
        print(text.render(found))
    return found.exit_code
