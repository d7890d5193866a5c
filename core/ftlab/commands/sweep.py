"""Train a config with several seeds, and with every combination of a grid; mean, sd and interval.

The runs are trained one after the other. A run is named by its settings and its seed, so a sweep
that was stopped or killed goes on by the same command: what is done is not trained again, what was
begun is resumed, and more seeds or values only add runs. Ctrl-C once: the run saves and stops, and
the sweep ends (exit code 130). Twice: the run is left alone.

A run that fails is counted, and the next one begins; the exit code is then 1. The table on stdout
has for each point of the grid the mean, the sample standard deviation and the 95 % confidence
interval (Student's t) of every figure of the last evaluation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ftlab import launch, registry
from ftlab import plan as plans
from ftlab.commands import common
from ftlab.commands.watch import watch, where_it_resumes
from ftlab.errors import ConfigError, Interrupted, Problem
from ftlab.interrupts import Interrupts
from ftlab.launch import fitness
from ftlab.plan import Plan
from ftlab.progress import duration
from ftlab.reproduce import sweep
from ftlab.reproduce.sweep import Outcome, Task
from ftlab.run import LIVE, Run
from ftlab.schema import RunConfig

Reader = Callable[[Sequence[str]], tuple[RunConfig, str]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.config_arguments(parser)
    parser.add_argument(
        "--seeds", metavar="N", required=True,
        help="how many seeds, from train.seed on; or a list such as 1,2,3",
    )  # fmt: skip
    parser.add_argument(
        "--grid",
        metavar="A.B=V1,V2",
        action="append",
        default=[],
        help="values of a setting to try; may be repeated, and every combination is trained",
    )
    common.runs_option(parser)
    parser.add_argument(
        "--in", metavar="WHERE", dest="where", help="short for --set launch.where=WHERE"
    )
    parser.add_argument(
        "--name", metavar="PREFIX", default="sweep",
        help="what the names of its runs begin with (default: sweep)",
    )  # fmt: skip
    parser.add_argument(
        "--report", action="store_true", help="train nothing: the table of what is done by now"
    )
    parser.add_argument(
        "--no-doctor", action="store_true", help="start without the doctor's look at GPU and driver"
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the plan")
    common.json_option(parser, "points, runs and figures")


def main(args: argparse.Namespace) -> int:
    """Train what is missing and print the table; 0, 1 where a run failed, 130 after Ctrl-C."""
    tasks = _tasks(args, common.config_reader(args))
    if not args.report:
        planned = _plans(tasks, args)
        with Interrupts() as interrupts:
            for number, task in enumerate(tasks, 1):
                where = f"run {number} of {len(tasks)}"
                if _train(task, planned[task.name], where, args.runs_dir, interrupts):
                    return _stopped(tasks, args.runs_dir)
    outcomes = [sweep.outcome(task, args.runs_dir) for task in tasks]
    _tell(outcomes, args)
    missing = any(one.state != "done" for one in outcomes)
    return 1 if missing and not args.report else 0


def _tasks(args: argparse.Namespace, read: Reader) -> list[Task]:
    """Every run of the sweep; all problems of all points at once."""
    chosen, points = sweep.seeds(args.seeds), sweep.grid(args.grid)
    made: list[Task] = []
    problems: list[Problem] = []
    count = len(points) * (chosen if isinstance(chosen, int) else len(chosen))
    if count > sweep.MOST:
        raise ConfigError(f"this sweep would be {count} runs; {sweep.MOST} are the most")
    for point in points:
        more = sweep.overrides(point)
        try:
            base, _ = read(more)
            sweep.check_evaluated(base)
            for seed in sweep.from_base(chosen, base.train.seed):
                config, text = read([*more, f"{sweep.SEED}={seed}"])
                made.append(Task(point, seed, sweep.run_name(args.name, config), config, text))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return made


def _plans(tasks: Sequence[Task], args: argparse.Namespace) -> dict[str, Plan]:
    """The plan of every task, before one is trained; model and data are read once per point."""
    launch.check(tasks[0].config.launch.where)
    registry.check(args.runs_dir, None)
    found: dict[str, Plan] = {}
    first: Plan | None = None
    for index, task in enumerate(tasks):
        if first is None or task.point != tasks[index - 1].point:
            first = common.make_plan(task.config, args.runs_dir)
            if not args.no_doctor:
                fitness.check(first)
        found[task.name] = plans.resolve(task.config, first.facts)
        there = Run(Path(args.runs_dir) / task.name)
        if there.plan_path.is_file():
            sweep.check_same(there, found[task.name])
    if not args.quiet and not args.json:
        common.say(common.plan_text(found[tasks[0].name], sys.stderr))
    _announce([sweep.outcome(task, args.runs_dir) for task in tasks], found)
    return found


def _announce(outcomes: Sequence[Outcome], planned: dict[str, Plan]) -> None:
    left = [planned[one.task.name] for one in outcomes if one.state != "done"]
    points = len(sweep.by_point(outcomes))
    words = [f"sweep of {len(outcomes)} runs ({points} points, {len(outcomes) // points} seeds)"]
    if done := len(outcomes) - len(left):
        words.append(f"{done} are done")
    ranges = [plan.seconds for plan in left if plan.seconds]
    if ranges and len(ranges) == len(left):
        low, high = (sum(column) for column in zip(*ranges, strict=True))
        words.append(f"{duration(low)} to {duration(high)} of training to go")
    common.say("; ".join(words))


def _train(task: Task, plan: Plan, where: str, root: str, interrupts: Interrupts) -> bool:
    """Bring one run to its end; whether the sweep ends here."""
    if interrupts.count:
        return True
    run = Run(Path(root) / task.name)
    if not run.plan_path.is_file():
        run = Run.create(plan, root, task.name, config_text=task.text)
    state = run.liveness()
    if state == "done":
        return False
    settings = " ".join([*sweep.overrides(task.point), f"seed {task.seed}"])
    common.say(f"{where}: {settings}: {run.path}")
    offset = 0
    if state in LIVE:
        common.say(f"run {run.id} is {state} already, and is followed")
    else:
        if state != "planned":
            common.say(f"run {run.id} is {state}: {where_it_resumes(run)}")
        offset = run.events_path.stat().st_size if run.events_path.exists() else 0
        launch.start(run, resume=state != "planned")
    return watch(run, interrupts, as_json=False, offset=offset) == Interrupted.exit_code


def _stopped(tasks: Sequence[Task], root: str) -> int:
    done = sum(sweep.outcome(task, root).state == "done" for task in tasks)
    common.say(f"the sweep stops: {done} of {len(tasks)} runs are done; the same command goes on")
    return Interrupted.exit_code


def _tell(outcomes: Sequence[Outcome], args: argparse.Namespace) -> None:
    if args.json:
        common.put_json(sweep.to_json(outcomes))
    else:
        keys = [key for key, _ in outcomes[0].task.point]
        header = (*keys, "METRIC", "RUNS", "MEAN", "SD", "95 % INTERVAL")
        print(common.table(header, sweep.rows(outcomes)))
    for one in outcomes:
        if one.state != "done":
            common.say(f"run {one.task.name} is {one.state} and not counted")
        elif not one.metrics:
            common.say(f"run {one.task.name} has no evaluation at its last step")
