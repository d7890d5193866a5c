"""Give what a run made in the form that another tool reads.

adapter: PEFT's format, which a finished run has anyway; merged: an ordinary Hugging Face model;
ollama: the same with a Modelfile, for `ollama create NAME -f DIR/Modelfile`. The path is printed.
"""

from __future__ import annotations

import argparse

from ftlab.commands import common
from ftlab.errors import ConfigError
from ftlab.run import Run

FORMS = ("adapter", "merged", "ollama")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument(
        "--to", choices=FORMS, default="merged", help="what is wanted (default: merged)"
    )
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32"), default="bf16",
        help="of merged weights on disk (default: bf16)",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Export and print where it is."""
    run = common.find(args)
    if args.to == "adapter":
        print(_made(run))
        return 0
    from ftlab.export import merged

    common.say(f"merging the adapter of {run.id} into {run.plan().config.model.name} ...")
    more = merged.with_modelfile(run) if args.to == "ollama" else lambda folder: None
    folder = merged.export_merged(run, args.dtype, more)
    print(folder)
    if args.to == "ollama":
        common.say(f"ollama create {run.id} -f {folder / merged.MODELFILE}")
    return 0


def _made(run: Run) -> str:
    """What the run wrote at its end.

    Raises:
        ConfigError: it has not come to its end.
    """
    for name in ("adapter", "model"):
        folder = run.export_dir / name
        if folder.is_dir():
            return str(folder)
    raise ConfigError(f"{run.id} has made nothing yet: it is {run.liveness()}")
