"""Facts for a plan, collected in a child process so that the caller stays light.

    collect(config)                       the parent's side: standard library only
    python -m ftlab.probe --machine       prints the machine's facts as JSON
    python -m ftlab.probe REQUEST ANSWER  the child's side, used by `collect`

Answer and errors travel through a file; progress bars go straight to the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab import atomic, child, errors
from ftlab.errors import ConfigError, FtlabError, Problem
from ftlab.facts import Facts, from_json, to_json
from ftlab.schema import RunConfig

RUNS_VARIABLE, RUNS_DEFAULT = "FTLAB_RUNS", "runs"


def collect(
    config: RunConfig,
    *,
    cache: bool = True,
    progress: bool = True,
    runs_dir: str | os.PathLike[str] | None = None,
) -> Facts:
    """Everything `plan.resolve` may know: this machine, the model, the data.

    The data is prepared into the token store on the way. With `cache`, what has not changed since
    the last time is not computed again; facts of the machine are always fresh.

    Args:
        progress: show progress bars on stderr.
        runs_dir: where run directories will lie; default FTLAB_RUNS or ./runs.

    Raises:
        ConfigError, DataError, EnvironmentUnfit, TryLater: as the child found them.
        FtlabError: the child died.
        KeyboardInterrupt: Ctrl-C; the child has ended by then.
    """
    place = os.fspath(runs_dir or os.environ.get(RUNS_VARIABLE) or RUNS_DEFAULT)
    with tempfile.TemporaryDirectory(prefix="ftlab-probe-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_request(request, config, cache=cache, progress=progress, runs_dir=place)
        arguments = [os.fspath(request), os.fspath(answer)]
        if config.launch.where == "docker":
            from ftlab.launch import docker

            code = docker.run_module(config, "ftlab.probe", arguments, Path(folder))
        else:
            code = child.run("ftlab.probe", arguments)
        return read_answer(answer, code)


def write_request(
    path: Path, config: RunConfig, *, cache: bool, progress: bool, runs_dir: str
) -> None:
    """Write what the child is asked; for callers that run the child themselves."""
    asked = {"config": to_json(config), "cache": cache, "progress": progress, "runs": runs_dir}
    atomic.write_json(path, asked, durable=False)


def read_answer(path: Path, code: int) -> Facts:
    """What the child found; `code` is how it ended. Raises as `collect` does."""
    if not path.exists():
        if code in (130, -2):
            raise KeyboardInterrupt
        if code == -9:
            raise FtlabError("the probe was killed (signal 9), probably for lack of memory")
        ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise FtlabError(f"the probe ended {ended}; what it said stands above")
    answer = atomic.read_json(path)
    if "error" in answer:
        raise _error_from(answer["error"])
    return from_json(Facts, answer["facts"])


def error_to_json(error: FtlabError) -> dict[str, Any]:
    """An error with its class and problems, for the way to the parent."""
    names = [cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__]
    problems = error.problems if isinstance(error, ConfigError) else ()
    return {
        "class": names[0],
        "message": str(error),
        "problems": [[item.path, item.message, item.hint] for item in problems],
    }


def _error_from(value: Mapping[str, Any]) -> FtlabError:
    """The inverse of `error_to_json`."""
    cls = getattr(errors, str(value["class"]), FtlabError)
    if not (isinstance(cls, type) and issubclass(cls, FtlabError)):
        cls = FtlabError
    if issubclass(cls, ConfigError):
        return cls([Problem(*map(str, item)) for item in value["problems"]])
    return cls(str(value["message"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The child's side, and `--machine` for people; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ftlab.probe", description="Facts about this machine, a model and data."
    )
    parser.add_argument("--machine", action="store_true", help="print the machine's facts")
    parser.add_argument("request", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("answer", nargs="?", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.machine:
        from ftlab.probing.machine import machine_facts

        runs = os.environ.get(RUNS_VARIABLE) or RUNS_DEFAULT
        print(json.dumps(to_json(machine_facts(runs)), indent=2))
        return 0
    if not parsed.answer:
        parser.print_usage(sys.stderr)
        return 2
    return _answer(Path(parsed.request), Path(parsed.answer))


def _answer(request_path: Path, answer_path: Path) -> int:
    request = atomic.read_json(request_path)
    if not request["progress"]:
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            answer = {"facts": to_json(_facts(request))}
        except FtlabError as error:
            answer = {"error": error_to_json(error)}
        atomic.write_json(answer_path, answer, durable=False)
        return 0
    return 130


def _facts(request: Mapping[str, Any]) -> Facts:
    from ftlab.probing.data import data_facts
    from ftlab.probing.machine import machine_facts
    from ftlab.probing.model import model_facts

    config, cache = from_json(RunConfig, request["config"]), bool(request["cache"])
    model = model_facts(config.model, cache=cache)
    data, evaluation = data_facts(config, model, cache=cache)
    machine = machine_facts(request["runs"], cache=cache)
    return Facts(machine, model, data, evaluation)


if __name__ == "__main__":
    sys.exit(main())
