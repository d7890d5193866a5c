"""Programs that are asked, side by side and each with a time limit; a hang is a fact, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ftlab_doctor.collect.reading import names, put, text

LIMIT = 24_000  # characters kept of each stream
PROGRAMS = (
    "cc", "gcc", "clang", "g++", "nvcc", "ptxas", "docker", "podman", "nvidia-smi", "nvidia-ctk",
    "nvidia-container-cli", "apptainer", "git", "curl", "ldconfig", "sbatch",
)  # fmt: skip
DOCKER = (
    '{"runtimes":{{json .Runtimes}},"root":{{json .DockerRootDir}},"security":{{json .SecurityOptions}},'
    '"cgroup":{{json .CgroupDriver}},"version":{{json .ServerVersion}},"os":{{json .OperatingSystem}}}'
)
Answer = dict[str, Any]


def run(argv: list[str], seconds: float = 5.0, limit: int = LIMIT) -> Answer:
    """What a command said; `rc` is None with an `error` if it is not there or did not end."""
    clean = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
            env=clean,
        )
    except FileNotFoundError:
        return {"rc": None, "error": "not found"}
    except subprocess.TimeoutExpired:
        return {"rc": None, "error": f"no answer in {seconds:g} s"}
    except OSError as error:
        return {"rc": None, "error": str(error)}
    out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return {"rc": done.returncode, "out": out[-limit:], "err": err[-limit:]}


def child(name: str, seconds: float) -> Answer:
    """One of our own stand-alone files in a fresh interpreter: a crash there is not one here."""
    script = str(Path(__file__).with_name(name))
    return run([sys.executable, "-I", "-S", script], seconds)


def start(pool: ThreadPoolExecutor) -> dict[str, Future[Answer]]:
    """Start everything that is slow."""
    waiting = {
        "nvml": pool.submit(child, "nvml_child.py", 15.0),
        "cuda": pool.submit(child, "cuda_child.py", 15.0),
        "ldconfig": pool.submit(_ldconfig),
        "dmesg": pool.submit(_kernel_log),
    }
    asked: dict[str, list[str]] = {}
    if shutil.which("docker") and not os.path.exists("/.dockerenv"):
        asked["docker info"] = ["docker", "info", "--format", DOCKER]
        asked["docker context"] = ["docker", "context", "show"]
    if shutil.which("nvidia-ctk"):
        asked["nvidia-ctk"] = ["nvidia-ctk", "--version"]
    if shutil.which("nvcc"):
        asked["nvcc"] = ["nvcc", "--version"]
    compiler = os.environ.get("CC") or next(
        (c for c in ("gcc", "clang", "cc") if shutil.which(c)), ""
    )
    if compiler:
        asked["cc"] = [*compiler.split()[:1], "-dumpversion"]
    asked |= _driver_questions()
    return waiting | {name: pool.submit(run, argv, 3.0) for name, argv in asked.items()}


def finish(facts: dict[str, Any], waiting: dict[str, Future[Answer]]) -> None:
    """Fill `commands`, `programs`, `nvml` and `cuda`."""
    import json

    for name, future in waiting.items():
        answer = future.result()
        if name in ("nvml", "cuda"):
            try:
                facts[name] = json.loads(answer.get("out") or "")
            except ValueError:
                facts[name] = {
                    "died": answer.get("rc"),
                    "error": answer.get("error") or answer.get("err", "")[-300:],
                }
        elif answer.get("error") != "not found":
            put(facts, "commands", name, answer)
    for name in PROGRAMS:
        put(facts, "programs", name, shutil.which(name) or False)
    put(facts, "programs", "$CC", _expanded("CC"))
    put(facts, "programs", "$CXX", _expanded("CXX"))
    smi = shutil.which("nvidia-smi")
    if smi and not facts.get("nvml", {}).get("gpus"):  # its words are what people search for
        put(facts, "commands", "nvidia-smi", run([smi], 8.0))


def _expanded(variable: str) -> str | bool:
    value = os.environ.get(variable, "").split()
    return (shutil.which(value[0]) or False) if value else False


def _ldconfig() -> Answer:
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    answer = run([program, "-p"], 3.0)
    wanted = (
        "libcu",
        "libnv",
        "libnccl",
        "libstdc++",
        "libgomp",
        "libmkl",
        "libtorch",
        "libnpp",
        "libdxcore",
    )
    lines = [line.strip() for line in str(answer.get("out", "")).splitlines()]
    if "out" in answer:
        answer["out"] = "\n".join(line for line in lines if line.startswith(wanted))
    return answer


def _kernel_log() -> Answer:
    """Lines of the kernel's log about the GPU, and about processes killed for memory."""
    answer = run(["dmesg"], 2.0)
    if answer.get("rc") != 0 and shutil.which("journalctl"):
        answer = run(["journalctl", "-k", "-b", "-o", "cat", "-n", "3000", "--no-pager"], 1.0)
    if answer.get("rc") == 0:
        wanted = (
            "NVRM",
            "Xid",
            "nvidia",
            "nouveau",
            "Out of memory",
            "oom-kill",
            "Key was rejected",
        )
        kept = [line for line in answer["out"].splitlines() if any(word in line for word in wanted)]
        answer = {"rc": 0, "out": "\n".join(kept[-80:]), "err": ""}
    return answer


def _driver_questions() -> dict[str, list[str]]:
    """Asked only where an NVIDIA card is on the bus: what became of its kernel module."""
    folder = "/sys/bus/pci/devices"
    vendors = [(slot, str(text(f"{folder}/{slot}/vendor")).strip()) for slot in names(folder) or []]
    cards = [slot for slot, vendor in vendors if vendor == "0x10de"]
    if not cards:
        return {}
    asked: dict[str, list[str]] = {}
    if not os.path.exists("/proc/driver/nvidia/version"):
        asked["modinfo version"] = ["modinfo", "-F", "version", "nvidia"]
        asked["modinfo signer"] = ["modinfo", "-F", "signer", "nvidia"]
        asked["dkms"] = ["dkms", "status"]
        asked["mokutil"] = ["mokutil", "--sb-state"]
    if any(str(text(f"{folder}/{slot}/class")).startswith("0x0680") for slot in cards):
        asked["fabricmanager"] = ["systemctl", "is-active", "nvidia-fabricmanager"]
    return asked
