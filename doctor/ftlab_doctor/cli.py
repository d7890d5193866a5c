"""ftdoctor: the command line.

stdout is data, stderr is narration. Exit codes: 0 all well, 1 the doctor itself failed (or a check
crashed), 2 usage, 3 at least one failure, 4 warnings only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ftlab_doctor import __version__, redact, registry, render, snapshot, stack
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host

OK, BROKEN, USAGE, FAILED, WARNED = 0, 1, 2, 3, 4
EPILOG = """commands:
  ftdoctor                     look at this machine
  ftdoctor snapshot            print every fact the checks read, redacted; for a colleague
  ftdoctor explain < log       map a pasted traceback to its cause and fix

exit codes: 0 well, 1 the doctor failed or could not look, 2 usage, 3 at least one failure, 4 warnings only"""


class Usage(Exception):
    """The command line is wrong."""


class Unable(Exception):
    """The doctor cannot look at what it was asked to look at."""


class Parser(argparse.ArgumentParser):
    """argparse that raises Usage."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise Usage(f"{message}; see `ftdoctor --help`")


def parser() -> Parser:
    """The options."""
    made = Parser(prog="ftdoctor", description="Says what is wrong before training does, with the command that mends it.",
                  epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)  # fmt: skip
    made.add_argument("command", nargs="?", choices=("snapshot", "explain"), help=argparse.SUPPRESS)
    made.add_argument("--json", action="store_true", help="print the findings as JSON")
    made.add_argument(
        "--check",
        metavar="ID",
        nargs="+",
        action="extend",
        default=[],
        help="only these checks (and their causes, silently)",
    )
    made.add_argument("--list", action="store_true", help="list the checks")
    made.add_argument(
        "--deep",
        action="store_true",
        help="also run probes: torch, matmul, Triton, bitsandbytes, xformers, NCCL, our kernels, the hub",
    )
    made.add_argument("--for", dest="config", metavar="CONFIG", help="can this config run here?")
    made.add_argument(
        "--in-container", metavar="IMAGE", help="look from inside a container of this image"
    )
    made.add_argument(
        "--host",
        metavar="FILE",
        help="judge a snapshot instead of this machine (- for standard input)",
    )
    made.add_argument(
        "--report",
        metavar="FILE",
        help="write a redacted report to paste into an issue (- for standard output)",
    )
    made.add_argument(
        "--fix-plan",
        action="store_true",
        help="print a shell script of the fixes; nothing is executed",
    )
    made.add_argument(
        "--lock", metavar="FILE", help="the lock to compare with (default: env*.lock found near)"
    )
    made.add_argument(
        "--no-redact", action="store_true", help="leave names, addresses and identifiers in"
    )
    made.add_argument(
        "-v", "--verbose", action="store_true", help="show the checks that passed, too"
    )
    made.add_argument("-V", "--version", action="version", version=f"ftdoctor {__version__}")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    try:
        code = _main(parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except (Usage, snapshot.BadSnapshot) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except Unable as error:
        print(f"error: {error}", file=sys.stderr)
        return BROKEN
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:
        if os.environ.get("FTLAB_DEBUG"):
            raise
        print(
            f"error: {type(error).__name__}: {error}\nthis is a fault of ftdoctor; FTLAB_DEBUG=1 shows where",
            file=sys.stderr,
        )
        return BROKEN


def _main(args: argparse.Namespace) -> int:
    if args.command == "explain":
        from ftlab_doctor import explain

        return explain.main(sys.stdin.read(), as_json=args.json)
    checks = registry.load()
    if args.list:
        rows = [(item.id, item.asks) for item in checks.values()]
        print(
            json.dumps([{"id": i, "asks": a} for i, a in rows], indent=1)
            if args.json
            else render.listing(rows)
        )
        return OK
    for name in args.check:
        if name not in checks:
            import difflib

            near = difflib.get_close_matches(name, checks, 1, 0.4)
            raise Usage(
                f"no check is called {name!r}"
                + (f"; did you mean {near[0]}?" if near else "")
                + "; `ftdoctor --list` shows them"
            )
    facts = _facts(args)
    if args.command == "snapshot":
        sys.stdout.write(snapshot.write(facts))
        return OK
    host = Host(facts)
    return _tell(args, host, registry.run(host, args.check))


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    """The snapshot to judge, redacted unless that was refused: so live and --host cannot differ."""
    if args.config and not os.path.isfile(args.config):
        raise Usage(f"--for {args.config}: there is no such file")
    if args.lock and not os.path.isfile(args.lock):
        raise Usage(f"--lock {args.lock}: there is no such file")
    if args.host:
        if args.deep or args.in_container:
            raise Usage("--host judges a file: --deep and --in-container need the machine itself")
        try:
            text = sys.stdin.read() if args.host == "-" else _read(args.host)
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{args.host} cannot be read: {error}") from error
        facts = snapshot.read(text)
        if args.config:
            from ftlab_doctor.collect import config

            config.collect(facts, args.config, elsewhere=True)
        return facts if args.no_redact else redact.snapshot(facts)
    facts = _inside(args.in_container) if args.in_container else _here(args)
    return facts if args.no_redact else redact.snapshot(facts)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _here(args: argparse.Namespace) -> dict[str, Any]:
    from ftlab_doctor.collect import collect

    facts = collect(args.lock)
    if args.config:
        from ftlab_doctor.collect import config

        config.collect(facts, args.config)
    if args.deep:
        from ftlab_doctor import probes

        probes.collect(facts, lambda text: print(text, file=sys.stderr, flush=True))
    return facts


def _inside(image: str) -> dict[str, Any]:
    """Facts from within, with the identity of this machine added, so that it is redacted as well."""
    from ftlab_doctor import in_container
    from ftlab_doctor.collect import system

    gpus = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
    try:
        facts = in_container.collect(image, gpus)
    except in_container.NoContainer as error:
        from ftlab_doctor import explain

        known = explain.explain(str(error))
        hint = f"\n  {known[0].cause}\n  → {known[0].fix}" if known else ""
        raise Unable(f"the container could not be asked: {error}{hint}") from error
    inner, outer = facts.get("identity") or {}, system.identity()
    for name in ("users", "hosts"):
        inner[name] = [*inner.get(name, []), *outer[name]]
    facts["identity"] = inner
    return facts


def _tell(args: argparse.Namespace, host: Host, findings: list[Finding]) -> int:
    code = exit_code(findings)
    if args.report:
        from ftlab_doctor import report

        text = report.markdown(host, findings, None if args.no_redact else host.section("redacted"))
        if args.report == "-":
            sys.stdout.write(text)
            return code
        with open(args.report, "w", encoding="utf-8") as file:
            file.write(text)
        print(
            f"written: {args.report}" + ("" if args.no_redact else f" (removed: {_removed(host)})"),
            file=sys.stderr,
        )
    here = "container" if host.in_container else "host"
    if args.fix_plan:
        from ftlab_doctor import fixplan

        sys.stdout.write(fixplan.script(findings, here))
    elif args.json:
        print(json.dumps(as_json(host, findings, code), indent=1, ensure_ascii=False))
    elif not args.report:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        import shutil

        from ftlab_doctor.checks.configured import verdict

        width = min(shutil.get_terminal_size((88, 24)).columns, 100)
        print(
            render.human(
                findings,
                stack.summary(host),
                max(width, 50),
                colour=colour,
                verbose=args.verbose or bool(args.check),  # what was asked by name is answered
                here=here,
                answer=verdict(host, findings),
            )
        )
    return code


def _removed(host: Host) -> str:
    return (
        ", ".join(f"{count} {kind}" for kind, count in host.section("redacted").items())
        or "nothing"
    )


def as_json(host: Host, findings: list[Finding], code: int) -> dict[str, Any]:
    """The document of --json."""
    return {
        "format": "ftdoctor-findings", "version": 1, "tool": __version__, "host": stack.summary(host), "exit": code,
        "redacted": host.section("redacted"), "faults": host.facts.get("faults") or [], "findings": [f.to_dict() for f in findings],
    }  # fmt: skip


def exit_code(findings: list[Finding]) -> int:
    """3 if something fails, 1 if a check crashed, 4 if there are warnings only."""
    statuses = {f.status for f in findings}
    if "fail" in statuses:
        return FAILED
    if "crash" in statuses:
        return BROKEN
    return WARNED if "warn" in statuses else OK
