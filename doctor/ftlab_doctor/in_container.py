"""--in-container IMAGE: take the snapshot inside a container of that image, and judge it here."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ftlab_doctor import snapshot
from ftlab_doctor.collect.commands import run

PACKAGE = Path(__file__).resolve().parent


class NoContainer(RuntimeError):
    """The container could not be started; the message is the engine's own."""


def arguments(engine: str, image: str, gpus: bool) -> list[str]:
    """The command: our source is mounted read-only, nothing of the image is changed or fetched."""
    argv = [
        engine,
        "run",
        "--rm",
        "--pull",
        "never",
        "--network",
        "none",
        "-v",
        f"{PACKAGE}:/ftdoctor/ftlab_doctor:ro",
        "-e",
        "PYTHONPATH=/ftdoctor",
    ]
    if gpus:
        argv += ["--device", "nvidia.com/gpu=all"] if engine == "podman" else ["--gpus", "all"]
    # --no-redact: what comes back is redacted here, by the names of both machines
    inner = "for p in python3 python; do command -v $p >/dev/null && exec $p -m ftlab_doctor snapshot --no-redact; done; echo 'no python in the image' >&2; exit 97"
    return [*argv, "--entrypoint", "sh", image, "-c", inner]


def _advice(engine: str, image: str, words: str) -> str:
    """What to do about the words of an engine that are about this image."""
    if re.search(
        r"no such image|image not known|not present locally|unable to find image",
        words,
        re.IGNORECASE,
    ):
        return f"\n  the image is not on this machine: {engine} pull {image}"
    if re.search(
        r"unrecognized|unknown flag|unexpected keyword|SyntaxError|No module named", words
    ):
        return "\n  the Python in the image must be 3.9 or newer, and the engine must see this machine's files"
    return ""


def collect(image: str, gpus: bool, seconds: float = 120.0) -> dict[str, Any]:
    """The snapshot from inside.

    Raises:
        NoContainer: no engine, the image cannot be run, or it has no Python 3.9 or newer.
    """
    engine = os.environ.get("FTLAB_CONTAINER_ENGINE") or next(
        (e for e in ("docker", "podman") if shutil.which(e)), ""
    )
    if not engine:
        raise NoContainer(
            "neither docker nor podman is on PATH: install one, or name yours in FTLAB_CONTAINER_ENGINE"
        )
    answer = run([*arguments(engine, image, gpus)], seconds, limit=4_000_000)
    words = (answer.get("err") or answer.get("error") or "").strip()
    if answer.get("rc") != 0:
        raise NoContainer(
            (words[-800:] or f"{engine} ended with {answer.get('rc')}")
            + _advice(engine, image, words)
        )
    try:
        facts = snapshot.read(json.dumps(json.loads(answer["out"])))
    except ValueError as error:
        raise NoContainer(f"the container's answer is no snapshot: {error}") from error
    if (facts.get("env") or {}).get("PYTHONPATH") == "/ftdoctor":
        del facts["env"]["PYTHONPATH"]  # ours, to be found there; the image has none
    return facts
