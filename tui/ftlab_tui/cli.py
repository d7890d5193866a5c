"""ftui: the command line of the app.

ftui                 the app
ftui r               a new run that begins with the last one's config
ftui attach RUN      watch a run, from anywhere that sees its directory
ftui status          one screen of text, and out
ftui serve           the same app in a browser, on this machine only
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from ftlab.errors import ConfigError, FtlabError

COMMANDS = ("attach", "status", "serve", "r")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app or one of its commands; the exit code as ftrun's."""
    try:
        return run(parser().parse_args(argv))
    except FtlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="ftui", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("command", nargs="?", metavar="COMMAND", choices=COMMANDS,
                      help=", ".join(COMMANDS))  # fmt: skip
    made.add_argument("run", nargs="?", metavar="RUN", help='of attach: id, part of it, or "last"')
    made.add_argument("--runs-dir", metavar="DIR", help="folder of the runs (default: $FTLAB_RUNS, "
                      "else ./runs)")  # fmt: skip
    made.add_argument("--port", type=int, default=8000, help="of serve (default: 8000)")
    return made


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    if args.run is not None and args.command != "attach":
        raise ConfigError(f"unexpected {args.run!r}; see `ftui --help`")
    if args.command == "serve":
        from ftlab_tui.serving import serve

        serve(args.port, ["--runs-dir", args.runs_dir] if args.runs_dir else [])
        return 0
    from ftlab_tui.lab import Lab

    lab = Lab(Path(args.runs_dir)) if args.runs_dir else Lab()
    if args.command == "status":
        from ftlab_tui.status import text

        print(text(lab))
        return 0
    # What is made on the way to the first paint lives on: looking for garbage in it costs a tenth.
    gc.disable()
    from ftlab.run import Run
    from ftlab_tui.app import FtuiApp

    attach = Run.find(args.run or "last", lab.runs_dir) if args.command == "attach" else None
    app = FtuiApp(lab, attach=attach, repeat=args.command == "r")
    app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
