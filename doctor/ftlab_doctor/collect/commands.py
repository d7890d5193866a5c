"""Programs that are asked, side by side and each with a time limit; a hang is a fact, too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from ftlab_doctor.collect.libraries import DEFAULT
from ftlab_doctor.collect.reading import names, put, text, which

LIMIT = 24_000  # characters kept of each stream
PROGRAMS = (
    "cc", "gcc", "clang", "g++", "nvcc", "ptxas", "docker", "podman", "nvidia-smi", "nvidia-ctk",
    "nvidia-container-cli", "apptainer", "git", "curl", "ldconfig", "sbatch", "uv",
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


class Later:
    """An answer that a thread waits for."""

    def __init__(self, ask: Callable[..., Answer], *arguments: Any) -> None:
        self._answer: Answer = {"rc": None, "error": "not asked"}
        self._thread = threading.Thread(target=self._run, args=(ask, arguments), daemon=True)
        self._thread.start()

    def _run(self, ask: Callable[..., Answer], arguments: tuple[Any, ...]) -> None:
        try:
            self._answer = ask(*arguments)
        except Exception as error:  # a thread has no caller that could see it
            self._answer = {"rc": None, "error": f"{type(error).__name__}: {error}"}

    def result(self) -> Answer:
        """The answer, once it is there."""
        self._thread.join()
        return self._answer


def child(name: str, library: str, seconds: float) -> Answer:
    """One of our own stand-alone files in a fresh interpreter: a crash there is not one here.

    Where the loader could find the library nowhere, no interpreter is started to be told so.
    """
    if not findable(library):
        words = f"{library}: cannot open shared object file: No such file or directory"
        return {"rc": 0, "out": f'{{"missing": "{words}"}}', "err": ""}
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    return run([sys.executable, "-I", "-S", script], seconds)


def findable(library: str) -> bool:
    """Whether the loader's cache, or any folder it looks into, has a file of that name."""
    try:
        with open("/etc/ld.so.cache", "rb") as file:
            if library.encode() in file.read():
                return True
    except OSError:
        return True  # no cache, so no GNU loader: only trying tells
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":"), *DEFAULT]
    folders += [os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]
    return any(os.path.lexists(os.path.join(folder, library)) for folder in folders)


def start() -> dict[str, Later]:
    """Start everything that is slow."""
    waiting = {
        "nvml": Later(child, "nvml_child.py", "libnvidia-ml.so.1", 15.0),
        "cuda": Later(child, "cuda_child.py", "libcuda.so.1", 15.0),
        "ldconfig": Later(_ldconfig),
        "dmesg": Later(_kernel_log),
    }
    asked: dict[str, list[str]] = {}
    if which("docker") and not os.path.exists("/.dockerenv"):
        asked["docker info"] = ["docker", "info", "--format", DOCKER]
        asked["docker context"] = ["docker", "context", "show"]
    if which("nvidia-ctk"):
        asked["nvidia-ctk"] = ["nvidia-ctk", "--version"]
    if which("nvcc"):
        asked["nvcc"] = ["nvcc", "--version"]
    compiler = os.environ.get("CC") or next((c for c in ("gcc", "clang", "cc") if which(c)), "")
    if compiler:
        asked["cc"] = [*compiler.split()[:1], "-dumpversion"]
    asked |= _driver_questions()
    return waiting | {name: Later(run, argv, 3.0) for name, argv in asked.items()}


def finish(facts: dict[str, Any], waiting: dict[str, Later]) -> None:
    """Fill `commands`, `programs`, `nvml` and `cuda`."""
    import json

    for name, later in waiting.items():
        answer = later.result()
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
        put(facts, "programs", name, which(name) or False)
    put(facts, "programs", "$CC", _expanded("CC"))
    put(facts, "programs", "$CXX", _expanded("CXX"))
    smi = which("nvidia-smi")
    if smi and not facts.get("nvml", {}).get("gpus"):  # its words are what people search for
        put(facts, "commands", "nvidia-smi", run([smi], 8.0))


def _expanded(variable: str) -> str | bool:
    value = os.environ.get(variable, "").split()
    return (which(value[0]) or False) if value else False


def _ldconfig() -> Answer:
    program = which("ldconfig") or "/sbin/ldconfig"
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
    if answer.get("rc") != 0 and which("journalctl"):
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
            "unsigned module",
            "Required key not available",
            "version magic",
            "disagrees about version",
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
