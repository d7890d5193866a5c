"""Running deep probes: each a stand-alone file, in a process and with a time limit of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

FOLDER = Path(__file__).parent
LIMITS = {
    "torch": 60.0,
    "matmul": 90.0,
    "triton": 90.0,
    "bitsandbytes": 90.0,
    "xformers": 60.0,
    "nccl": 60.0,
    "kernels": 120.0,
}
TAIL = 4000
# No core file is left behind, and a child in a loop cannot fill the disk.
START = (
    "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (min(1 << 30, hard) if hard > 0 else 1 << 30, hard)); "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)
Result = dict[str, Any]


def run(name: str, script: Path | None = None, limit: float | None = None) -> Result:
    """One probe: its exit status (None: it hung; negative: a signal), what it printed, its last words."""
    limit = LIMITS.get(name, 60.0) if limit is None else limit
    script = script or FOLDER / f"{name}.py"
    start = time.perf_counter()
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [sys.executable, "-c", START, os.fspath(script)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            rc: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            rc = None
        finally:  # and whatever it has started itself
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        texts = [_tail(stream) for stream in (out, err)]
    result: Result = {
        "rc": rc,
        "seconds": round(time.perf_counter() - start, 2),
        "limit": limit,
        "err": texts[1][-TAIL:],
    }
    result["out"] = _answer(texts[0])
    return result


def _tail(stream: IO[bytes]) -> str:
    """The end of what was written: a child in a loop may have written much."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4 * TAIL))
    return stream.read().decode("utf-8", "replace")


def _answer(text: str) -> dict[str, Any]:
    """The JSON object in the last line; empty if there is none."""
    try:
        value = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def collect(facts: dict[str, Any], say: Callable[[str], None]) -> None:
    """Fill `probes`. If torch itself cannot be imported, the others are left."""
    found: dict[str, Result] = {}
    facts["probes"] = found
    for name in LIMITS:
        if name != "torch" and (found["torch"]["rc"] != 0):
            found[name] = {"skipped": "torch cannot be imported"}
            continue
        say(f"probing {name} ...")
        found[name] = run(name)
    found["hub"] = hub()


def hub(limit: float = 8.0) -> Result:
    """One request to the hub by curl: status, error, and how far the clock is off."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return {"skipped": "HF_HUB_OFFLINE is set"}
    curl = shutil.which("curl")
    if not curl:
        return {"rc": 0, "out": {"missing": True}}
    where = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    start = time.perf_counter()
    argv = [
        curl,
        "-sS",
        "-I",
        "-o",
        "-",
        "-w",
        "\n%{http_code} %{http_connect}",
        "--max-time",
        str(limit),
        where,
    ]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=limit + 2,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"rc": 0, "out": {"status": 0, "error": str(error)}}
    codes = done.stdout.rsplit("\n", 1)[-1].split()
    status = int(codes[0]) if codes and codes[0].isdigit() else 0
    if len(codes) > 1 and codes[1] == "407":
        status = 407
    out: dict[str, Any] = {
        "status": status,
        "error": done.stderr.strip()[-300:],
        "seconds": round(time.perf_counter() - start, 2),
    }
    dates = [line for line in done.stdout.splitlines() if line.lower().startswith("date:")]
    if dates:
        out["skew"] = _skew(dates[-1][5:].strip())
    return {"rc": 0, "out": out}


def _skew(date: str) -> float | None:
    """Seconds by which this clock is ahead of a server's."""
    from email.utils import parsedate_to_datetime

    try:
        return round(time.time() - parsedate_to_datetime(date).timestamp(), 1)
    except ValueError:
        return None
