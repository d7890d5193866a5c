"""Facts for --for CONFIG: what the config asks for, and what `ftrun plan` says of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import tempfile
from typing import Any

from ftlab_doctor import stack
from ftlab_doctor.collect import weights
from ftlab_doctor.collect.commands import run
from ftlab_doctor.collect.reading import text, which
from ftlab_doctor.host import Host
from ftlab_doctor.markers import normal

KEYS = frozenset((
    "precision", "bf16", "fp16", "tf32", "attn_implementation", "flash_attention", "flash_attn", "load_in_8bit", "load_in_4bit",
    "torch_compile", "optim", "base_model", "model_name_or_path", "xformers_attention",
))  # fmt: skip
SECONDS = 120.0


def collect(facts: dict[str, Any], path: str, *, elsewhere: bool = False) -> None:
    """Fill `config`. Keys of TRL and Axolotl configs are understood too.

    Args:
        elsewhere: the facts are those of another machine, for which the plan is to be made here.
    """
    content = text(path, 1 << 18)
    found: dict[str, Any] = {"path": path, "readable": isinstance(content, str)}
    if elsewhere:
        found["elsewhere"] = True
    if isinstance(content, str):
        found["asked"] = asked(content)
        if not elsewhere:
            found |= weights.describe(named(found["asked"]))
        if re.search(r"^(model|data):", content, re.MULTILINE):
            found |= _plan(path, machine(facts) if elsewhere else None)
    facts["config"] = found


def asked(content: str) -> dict[str, str]:
    """Values of the keys that decide what a card must be able to do; comments are no settings."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # indentation and name of the keys around a line
    for line in content.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).rstrip()
        match = re.match(r"(\s*)(?:- )?[\"']?([\w.-]+)[\"']?\s*:(?:\s+(.*)|$)", line)
        if not match:
            continue
        depth, key, value = len(match[1]), match[2], match[3] or ""
        while above and above[-1][0] >= depth:
            above.pop()
        _take(found, above[-1][1] if above else "", key, value)
        above.append((depth, key))
        if value.startswith("{"):
            for inner, said in re.findall(r"[{,]\s*[\"']?([\w-]+)[\"']?\s*:\s*([^,}]*)", value):
                _take(found, key, inner, said)
    return found


def _take(found: dict[str, str], parent: str, key: str, value: str) -> None:
    value = value.strip().strip("\"'")
    if key in KEYS and value and value[0] not in "{[|>&":
        found.setdefault(key, value)
    elif (parent, key) == ("model", "name") and value:
        found["name"] = value


def named(asked: dict[str, str]) -> str:
    """The model that a config asks for, by whichever key; "" if by none."""
    return next((asked[n] for n in ("name", "base_model", "model_name_or_path") if n in asked), "")


def machine(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a snapshot in the form in which `ftrun plan --machine` takes them."""
    host = Host(facts)
    system, memory = host.system, host.system.get("memory") or {}
    limit = (system.get("cgroup") or {}).get("memory", -1)
    total, free = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    if 0 < limit < total:
        total, free = limit, min(limit, free)
    cpu, cores = system.get("cpu") or {}, system.get("cores", 1)
    threads = host.env("OMP_NUM_THREADS") or ""
    gpus = (
        []
        if _hidden(host) or not stack.torch_cuda(host)
        else [_gpu(g) for g in stack.gpus(host) if g.cc]
    )
    versions = {
        normal(p["name"]): p["version"] for p in reversed(host.packages) if not p.get("inactive")
    }
    return {
        "platform": f"{system.get('name', 'Linux')}-{host.kernel}-{system.get('machine', '')}",
        "cpu": cpu.get("model", ""), "cpu_count": cores, "threads": int(threads) if threads.isdigit() else cores,
        "cpu_bf16": bool({"avx512_bf16", "amx_bf16"} & set(cpu.get("flags") or ())),
        "memory_bytes": total, "memory_free_bytes": free, "disk_free_bytes": host.place("runs").get("free", 0),
        "driver": stack.driver(host), "cuda": stack.torch_cuda(host), "gpus": gpus,
        "gpu_problem": "" if gpus else _why(host), "versions": versions | {"python": host.python.get("version", "")},
    }  # fmt: skip


def _gpu(gpu: stack.Gpu) -> dict[str, Any]:
    ecc = gpu.facts.get("ecc")
    return {
        "index": gpu.index, "name": gpu.name, "capability": list(gpu.cc or ()), "total_bytes": gpu.total,
        "free_bytes": gpu.facts.get("free") or gpu.total, "ecc": bool(ecc[0]) if ecc else None, "uuid": gpu.facts.get("uuid") or "",
    }  # fmt: skip


def _hidden(host: Host) -> bool:
    visible = host.env("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.strip() in ("", "-1")


def _why(host: Host) -> str:
    if _hidden(host):
        return f"CUDA_VISIBLE_DEVICES={host.env('CUDA_VISIBLE_DEVICES')!r} hides every GPU"
    if not stack.expected(host):
        return ""
    return (
        "torch is built without CUDA" if not stack.torch_cuda(host) else "the driver shows no GPU"
    )


def _command() -> list[str]:
    """How `ftrun` is started: from this interpreter, so that both speak of one environment."""
    if importlib.util.find_spec("ftlab") is not None:
        return [sys.executable, "-m", "ftlab"]
    beside = os.path.join(os.path.dirname(sys.executable), "ftrun")
    program = beside if os.path.exists(beside) else which("ftrun")
    return [program] if program else []


def _plan(path: str, other: dict[str, Any] | None) -> dict[str, Any]:
    """The plan in short, by a child process; nothing of ftlab is imported here."""
    command = _command()
    if not command:
        return {"planned": False}
    with tempfile.TemporaryDirectory(prefix="ftdoctor-") as folder:
        arguments = ["plan", "--json", path]
        if other is not None:
            file = os.path.join(folder, "machine.json")
            with open(file, "w", encoding="utf-8") as stream:
                json.dump(other, stream)
            arguments += ["--machine", file]
        answer = run([*command, *arguments], SECONDS, 4_000_000)
    found: dict[str, Any] = {
        "planned": True,
        "rc": answer.get("rc"),
        "said": (answer.get("err") or answer.get("error") or "")[-1500:],
    }
    try:
        plan = json.loads(answer.get("out") or "")
    except ValueError:
        return found
    found["memory"] = sum(plan.get("memory", {}).values())
    found["disk"] = plan.get("disk_bytes", 0)
    found["warnings"] = list(plan.get("warnings", []))[:5]
    found["device"] = (plan.get("decisions", {}).get("device") or {}).get("value")
    return found
