"""`ftrun demo`: fine-tune a small real model on the starter task and show before and after.

Everything goes the ordinary way: the same probe, plan, run directory, trainer and progress bar as
`ftrun train`. The numbers in the table come from the saved adapter, loaded by PEFT.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab import atomic, child, config, configtext, registry
from ftlab.commands import common
from ftlab.errors import FtlabError, VerdictNegative
from ftlab.interrupts import Interrupts
from ftlab.paths import cache_dir, make_cache_dir
from ftlab.run import Run
from ftlab.starter import data

if TYPE_CHECKING:
    from ftlab.plan import Plan

BEFORE_AT_MOST, AFTER_AT_LEAST = 0.30, 0.85
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"kind": "lora", "r": 16, "lora_alpha": 32},
    "data": {"format": "messages", "train_on": "completions"},
    "method": {"kind": "sft"},
    "optim": {"learning_rate": 1e-3, "schedule": "linear", "warmup": 0.1},
    "train": {"epochs": 1, "batch_size": 8, "seed": 3407, "eval_every": 0},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code, which is 4 when the default demo misses its result."""
    from ftlab.cli import Parser

    parser = Parser(prog="ftrun demo", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    arguments(parser)
    args = parser.parse_args(argv)
    if args.prepare:
        return prepare(Path(args.prepare))
    return run_demo(args)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.runs_option(parser)
    parser.add_argument("--name", metavar="ID", help="name of the run (default: made up)")
    parser.add_argument(
        "--set", metavar="A.B=C", action="append", default=[], dest="overrides",
        help="change one setting of the demo's config; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--prepare", metavar="DIR", help="only put the starter's model and data into DIR"
    )
    parser.set_defaults(detach=False)
    common.json_option(parser, "the events of the run and the result")


def prepare(folder: Path) -> int:
    """Put the data and a link to the model into `folder`, as recipes/starter.yaml wants them."""
    from ftlab.starter.model import fetch

    data.write(folder)
    link = folder / "model"
    with atomic.clear_errors(link):
        if link.is_symlink():
            link.unlink()
        link.symlink_to(fetch(), target_is_directory=True)
    print(folder)
    return 0


def run_demo(args: argparse.Namespace) -> int:
    """Data, model, plan, score, run, score, table."""
    from ftlab.commands.train import start_and_watch
    from ftlab.plan import render
    from ftlab.starter import model

    registry.check(args.runs_dir, args.name)
    folder = cache_dir() / "starter" / f"orders-{data.SEED}"
    asked = demo_config(model.location(), folder / "train.jsonl", args.overrides)
    make_cache_dir("starter")
    files = data.write(folder)
    model.fetch()
    plan = common.make_plan(asked, args.runs_dir)
    common.say(render(plan))
    common.say(f"\nbefore: asking the untrained model for {data.HELD_OUT_ROWS} held-out records")
    before = score(plan, files.held_out, None)
    with Interrupts() as interrupts:
        run = Run.create(plan, args.runs_dir, args.name, config_text=configtext.dump(asked))
        code = start_and_watch(run, interrupts, args)
    if code != 0:
        return code
    common.say("after: asking the tuned model for the same records")
    after = score(plan, files.held_out, run.export_dir / "adapter")
    atomic.write_json(run.path / "exact_match.json", {"before": before, "after": after})
    tell(args, run, files, before, after)
    if not args.overrides:
        judge(before["score"], after["score"])
    return 0


def demo_config(model: Path, source: Path, overrides: Sequence[str]) -> Any:
    """The demo's RunConfig: SETTINGS with this model and data, then `--set`."""
    mapping = {section: dict(values) for section, values in SETTINGS.items()}
    mapping["model"] = {"name": str(model)}
    mapping["data"]["source"] = str(source)
    return config.from_mapping(config.apply_overrides(mapping, overrides))


def score(plan: Plan, rows: Path, adapter: Path | None) -> dict[str, Any]:
    """Exact match of the plan's model on `rows`, measured by a child process.

    Raises:
        FtlabError: the child failed; its own words are on stderr.
        KeyboardInterrupt: Ctrl-C; the child has ended by then.
    """
    request = {
        "model": plan.facts.model.path,
        "adapter": str(adapter) if adapter else None,
        "rows": str(rows),
        "device": plan.decisions["device"].value,
        "dtype": plan.decisions["compute_dtype"].value,
    }
    with tempfile.TemporaryDirectory(prefix="ftlab-score-") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        atomic.write_json(asked, request, durable=False)
        code = child.run("ftlab.starter.score", [str(asked), str(answer)])
        if code != 0 or not answer.is_file():
            raise FtlabError(f"the model could not be scored (exit code {code})")
        return atomic.read_json(answer)


def tell(
    args: argparse.Namespace,
    run: Run,
    files: data.Files,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    """Print the result: a table and where everything lies, or one JSON line."""
    places = {
        "run": run.path,
        "adapter": run.export_dir / "adapter",
        "manifest": run.manifest_path,
        "answers": run.path / "exact_match.json",
        "model": run.plan().facts.model.path,
        "data": files.train,
    }
    if args.json:
        result = {"before": before["score"], "after": after["score"], "rows": before["rows"]}
        common.put_json({"kind": "result", **result, **places}, indent=None)
        return
    scores = ("exact match", _share(before), _share(after))
    print(common.table(("held-out rows", "before", "after"), [scores]))
    for old, new in list(zip(before["answers"], after["answers"], strict=True))[:2]:
        print(
            f"\n{old['prompt']}\n  before  {_short(old['text'])}\n  after   {_short(new['text'])}"
        )
    print("\n" + common.table(("where", ""), [(name, str(path)) for name, path in places.items()]))
    print(
        "\nTrain your own model or data with the same settings (a hub id or a local path each):\n"
        f"  {_ftrun()} train {os.path.relpath(run.config_path)} --model NAME --data SOURCE"
    )


def _ftrun() -> str:
    """How this ftrun is called from here."""
    called = Path(sys.argv[0])
    return "ftrun" if shutil.which("ftrun") or called.name != "ftrun" else os.path.relpath(called)


def judge(before: float, after: float) -> None:
    """Raise VerdictNegative unless the base model fails the task and the tuned one masters it."""
    if before > BEFORE_AT_MOST or after < AFTER_AT_LEAST:
        raise VerdictNegative(
            f"the demo should go from under {BEFORE_AT_MOST:.0%} to over {AFTER_AT_LEAST:.0%} "
            f"exact match; it went from {before:.1%} to {after:.1%}"
        )


def _share(result: dict[str, Any]) -> str:
    return f"{result['score']:.1%} ({result['correct']} of {result['rows']})"


def _short(text: str, length: int = 70) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."
