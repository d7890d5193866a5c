"""Give what a run made in the form that another tool reads.

adapter: PEFT's format, which a finished run has anyway; merged: an ordinary Hugging Face model;
gguf: one file for llama.cpp and what is built on it; ollama: such a file with a Modelfile, for
`ollama create NAME -f DIR/Modelfile`. The path is printed. Each of the last three has a model card;
card prints the one for what the run itself made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ftlab.commands import common
from ftlab.errors import ConfigError
from ftlab.run import Run

FORMS = ("adapter", "merged", "gguf", "ollama", "card")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument(
        "--to", "--format", choices=FORMS, default="merged",
        help="what is wanted (default: merged)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32", "q8_0"), default="bf16",
        help="of the weights on disk; q8_0 (8.5 bits a weight) for gguf and ollama (default: bf16)",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Export and print where it is."""
    run = common.find(args)
    if args.to == "adapter":
        print(_made(run))
        return 0
    if args.to == "card":
        from ftlab.export.card import card

        print(card(run, Path(_made(run)).name), end="")
        return 0
    if args.to == "merged":
        print(_merged(run, args.dtype))
        return 0
    from ftlab.export.ollama import MODELFILE
    from ftlab.export.single import export_gguf

    common.say(f"writing {run.id}, made from {run.plan().config.model.name}, as one file ...")
    file, notes = export_gguf(run, args.dtype, ollama=args.to == "ollama")
    for note in notes:
        common.say(f"note: {note}")
    print(file if args.to == "gguf" else file.parent)
    if args.to == "ollama":
        common.say(f"ollama create {run.id} -f {file.parent / MODELFILE}")
    return 0


def _merged(run: Run, dtype: str) -> Path:
    if dtype == "q8_0":
        raise ConfigError("--dtype q8_0 is a format of GGUF: take --to gguf, or bf16, fp16, fp32")
    from ftlab.export.merged import export_merged

    common.say(f"merging the adapter of {run.id} into {run.plan().config.model.name} ...")
    return export_merged(run, dtype)


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
