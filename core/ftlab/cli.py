"""ftrun: the command line. Finds the command, loads only its module, turns errors into exit codes.

stdout is data, stderr is narration. Exit codes: see `ftlab.errors`. A command is a module of
`ftlab.commands` with `arguments(parser)` and `main(args) -> int`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ftlab.errors import ConfigError, FtlabError

COMMANDS = {
    "train": "train a config: plan, start, follow; Ctrl-C saves and stops",
    "sweep": "train with several seeds and a grid: mean, sd and confidence interval",
    "plan": "say everything that would happen, and why, without doing it",
    "resume": "go on with a run that was stopped, failed or was killed",
    "runs": "list the runs",
    "show": "say how one run stands and what it made",
    "stop": "ask a run to save and stop",
    "request": "ask a run to save, evaluate or sample now",
    "tail": "print the events of a run, and follow them",
    "reproduce": "run a finished run again and say whether it gives the same bits",
    "compare": "say what differs between runs, and where it began",
    "checklist": "fill the reproducibility items of a paper's checklist from the runs",
    "bundle": "put a finished run into one file that reproduce takes elsewhere",
    "export": "give what a run made as adapter, merged model or for Ollama",
    "containers": "list containers that are left over, and remove them",
    "init": "print a commented config to start from",
    "schema": "print the JSON Schema of a config, or its settings as a page",
    "demo": "fine-tune a small real model on generated data, before and after",
}
BROKEN_PIPE = 141  # what the shell shows for a tool whose reader went away


class Parser(argparse.ArgumentParser):
    """argparse with our errors: exit code 2, and the nearest word for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message and where help is."""
        hint = _nearest(message.split()[-1], self._words()) if message else ""
        where = f"see `{self.prog} --help`"
        raise ConfigError(f"{message}{hint}; {where}")

    def _words(self) -> list[str]:
        return [word for action in self._actions for word in action.option_strings]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except FtlabError as error:
        return _tell(error)
    except BrokenPipeError:
        return _reader_gone()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as leaving:  # argparse after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:
        return _unexpected(error)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        from ftlab import versions

        print(f"ftlab {versions.ours()}")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}{_nearest(name, COMMANDS)}; see `ftrun --help`")
    if name == "demo":  # has its own options
        from ftlab.starter import demo

        return int(demo.main(rest))
    module = importlib.import_module(f"ftlab.commands.{name}")
    parser = Parser(
        prog=f"ftrun {name}",
        description=module.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(parser)
    return int(module.main(parser.parse_args(rest)))


def usage() -> str:
    """The text of `ftrun --help`."""
    rows = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "usage: ftrun COMMAND [options]\n\n"
        "Fine-tune language models so that the result can be reproduced.\n\n"
        f"commands:\n{rows}\n\n"
        "`ftrun COMMAND --help` explains one; `ftrun --version` says which ftlab this is.\n"
        "exit codes: 0 done, 1 failed, 2 bad config, 3 environment unfit, 4 verdict negative,\n"
        "            75 try later, 130 interrupted after a save"
    )


def _nearest(word: str, known: Sequence[str] | dict[str, str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]}?" if near and near[0] != word else ""


def _tell(error: FtlabError) -> int:
    problems = error.problems if isinstance(error, ConfigError) else ()
    if len(problems) > 1:
        print(f"error: {len(problems)} problems", file=sys.stderr)
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _reader_gone() -> int:
    """Point stdout at nothing, or the interpreter complains again when it closes it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return BROKEN_PIPE


def _unexpected(error: Exception) -> int:
    if os.environ.get("FTLAB_DEBUG"):
        raise error
    print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    print("this is a fault of ftlab; FTLAB_DEBUG=1 shows where it happened", file=sys.stderr)
    return 1
