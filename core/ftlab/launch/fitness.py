"""What the doctor says of this machine before a run starts: a child, nothing of it is imported."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

from ftlab.errors import EnvironmentUnfit
from ftlab.planning.types import Plan

SECONDS = 30.0
# Checks whose failure stops a run on a GPU; the doctor knows many more, which do not.
GPU = (
    "driver.nouveau", "driver.secure-boot", "driver.branch", "driver.open-module",
    "driver.loaded", "driver.mismatch", "driver.nodes", "driver.library", "driver.compat",
    "driver.start", "driver.cuda", "gpu.lost", "gpu.fabric", "gpu.mig", "gpu.mode", "gpu.ecc",
    "lib.broken", "lib.missing", "lib.foreign", "torch.cuda", "torch.arch", "torch.whole",
    "triton.card", "triton.ptxas", "lib.triton-libcuda", "build.cc", "build.headers",
    "cache.home", "cache.writable", "cache.exec", "container.gpu", "container.capabilities",
    "wsl.version", "wsl.adapter", "wsl.loader", "wsl.linux-driver",
)  # fmt: skip
SEVERAL = ("gpu.p2p",)  # cards that hang when they talk to each other
BITSANDBYTES = ("bnb.binary", "bnb.arch")


def check(plan: Plan) -> None:
    """Ask the doctor about what `plan` needs here.

    Raises:
        EnvironmentUnfit: something of it is broken; the message has each cause and its fix.
    """
    names = needed(plan)
    found = [finding for finding in ask(names) if finding["status"] == "fail"] if names else []
    if found:
        raise EnvironmentUnfit(text(found))


def needed(plan: Plan) -> tuple[str, ...]:
    """The checks that matter to a plan; none for one that was meant for the CPU."""
    machine, launch = plan.facts.machine, plan.config.launch
    if launch.where != "local":
        return ()  # its container or cluster has an environment of its own
    on_gpu = str(plan.decided("device")).startswith("cuda")
    hidden = machine.gpu_problem.startswith("CUDA_VISIBLE_DEVICES")
    missed = bool(machine.gpu_problem) and not hidden and "launch.devices" in plan.decisions
    if not on_gpu and not missed:
        return ()
    quantised = plan.config.model.precision in ("nf4", "int8")
    several = SEVERAL if plan.world_size > 1 else ()
    eight_bit = quantised or plan.config.optim.name == "adamw_8bit"
    return GPU + several + (BITSANDBYTES if eight_bit else ())


def ask(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The doctor's findings; none where there is no doctor or it has no answer."""
    if importlib.util.find_spec("ftlab_doctor") is None:
        return []
    command = [sys.executable, "-m", "ftlab_doctor", "--json", "--check", *names]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False
        )
        return list(json.loads(done.stdout)["findings"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def text(findings: list[dict[str, Any]]) -> str:
    """What is wrong and how it is mended, for people."""
    lines = ["the doctor found what would stop this run:"]
    for finding in findings:
        lines.append(f"  {finding['title']}  ({finding['id']})")
        lines += [f"    -> {fix['cmd']}" for fix in finding["fix"][:1]]
    ways = "`ftdoctor` says more; --no-doctor starts anyway; launch.devices: [] trains on the CPU"
    return "\n".join([*lines, ways])
