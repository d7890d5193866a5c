"""Say how one run stands: state, progress, checkpoint, result, and what to do next."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ftlab import manifest, summary
from ftlab.commands import common
from ftlab.commands.runs import age
from ftlab.progress import duration
from ftlab.run import LIVE, Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument("--plan", action="store_true", help="print its plan instead")
    common.json_option(parser, "state and manifest")


def main(args: argparse.Namespace) -> int:
    """Print a run."""
    run = common.find(args)
    if args.plan:
        from ftlab import plan as plans

        plan = run.plan()
        common.put_json(plans.to_json(plan)) if args.json else print(
            common.plan_text(plan, sys.stdout)
        )
        return 0
    seen, made = summary.of(run), manifest.read(run)
    if args.json:
        common.put_json({**seen, "manifest": made})
    else:
        rows = [*_state(run, seen), *_result(made or {}), *_next(run, seen)]
        print(common.table(("run", run.id), rows))
    return 0


def _state(run: Run, seen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    message = f" ({seen['message']})" if seen["message"] else ""
    yield "state", f"{seen['state']}{message}"
    yield "what", f"{seen['method']} of {seen['model']} on {seen['data']}"
    yield "step", f"{seen['step']} of {seen['steps']}"
    if seen["loss"] is not None:
        yield "loss", f"{seen['loss']:.4g}"
    if seen["eval"]:
        figures = (f"{k} {v:.4g}" for k, v in seen["eval"].items() if isinstance(v, float))
        yield "evaluation", f"{', '.join(figures)} (step {seen['eval'].get('step')})"
    yield "age", age(seen["age"])
    process = run.process()
    if process and seen["state"] in LIVE:
        yield "process", f"{process.pid} on {process.host}"
    yield "folder", seen["path"]
    yield "checkpoint", seen["checkpoint"] or "none yet"


def _result(made: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "wall_seconds" in made:
        resumes = made.get("resumes") or 0
        again = f", resumed {resumes} times" if resumes else ""
        yield "took", f"{duration(made['wall_seconds'])}{again}"
    for name, output in dict(made.get("outputs") or {}).items():
        yield "output", f"{name} ({output['bytes']:,} bytes, sha256 {output['sha256'][:12]})"
    book = made.get("ledger") or {}
    if book:
        yield "ledger", f"{book['records']} steps, sha256 {book['sha256'][:12]}"


def _next(run: Run, seen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if seen["state"] in LIVE:
        yield "follow", f"ftrun tail -f {run.id}"
        yield "stop", f"ftrun stop {run.id}"
    elif seen["state"] != "done":
        yield "resume", f"ftrun resume {run.id}"
    if seen["state"] in ("failed", "lost"):
        yield "log", str(run.log_path)
