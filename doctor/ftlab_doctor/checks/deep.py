"""--deep: what came of really doing it, each probe in a process of its own."""

from __future__ import annotations

import re
import signal
from typing import Any

from ftlab_doctor.checks.driver import USABLE
from ftlab_doctor.finding import Finding, fail, ok, skip, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import Check, add

BROKEN = (
    "torch.installed",
    "torch.cuda",
    "torch.arch",
    "lib.missing",
    "lib.broken",
    "env.damaged",
    *USABLE,
)
# probe: question, what it blocks, optional part, what answers it already
PROBES: dict[str, tuple[str, str, bool, tuple[str, ...]]] = {
    "torch": ("Can torch be imported, and does it see the GPU?", "train", False, ("torch.installed", "lib.missing", "lib.broken", "env.damaged")),
    "matmul": ("Does a matrix product come out right in every dtype?", "train", False, ("probe.torch", *BROKEN)),
    "triton": ("Does a Triton kernel run, forward and backward?", "triton", False, ("probe.torch", "build.cc", "build.headers", "triton.card", "triton.ptxas", "lib.triton-libcuda", *BROKEN)),
    "bitsandbytes": ("Does bitsandbytes compute: 4 bit, and an 8-bit optimizer step?", "nf4", False, ("probe.torch", "bnb.binary", "bnb.arch", *BROKEN)),
    "xformers": ("Does xformers attention run, forward and backward?", "xformers", True, ("probe.torch", "xformers.build", *BROKEN)),
    "nccl": ("Do two GPUs talk by NCCL?", "multi-gpu", False, ("probe.torch", "gpu.p2p", *BROKEN)),
    "kernels": ("Does a kernel of ours agree with its reference?", "train", False, ("probe.torch", "probe.triton", *BROKEN)),
}  # fmt: skip
ERROR = re.compile(r"(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Fault)(?::|\Z)")
FIXES = {
    "torch": "pip install --force-reinstall --no-cache-dir torch=={torch}", "matmul": "ftdoctor --report report.md",
    "triton": "rm -rf ~/.triton/cache && pip install --force-reinstall --no-deps triton=={triton}",
    "bitsandbytes": "pip install -U --force-reinstall --no-deps bitsandbytes", "xformers": "pip uninstall -y xformers",
    "nccl": "export NCCL_P2P_DISABLE=1  # then try again", "kernels": "export FTLAB_KERNELS=off  # the reference path",
}  # fmt: skip


def judge(host: Host, name: str) -> Finding:
    """A result, a death or a time-out, turned into a finding."""
    question, blocks, optional, _ = PROBES[name]
    del question
    probe = host.probe(name)
    if probe is None:
        return skip("asked with --deep")
    out: dict[str, Any] = probe.get("out") or {}
    if probe.get("skipped") or out.get("skipped"):
        return skip(str(probe.get("skipped") or out.get("skipped")))
    rc = probe.get("rc")
    if rc == 0 and out.get("said"):
        return ok(str(out.get("said", "")) + f" ({probe.get('seconds', 0):.1f} s)")
    fix = FIXES[name].format(
        torch=(host.version("torch") or "").split("+")[0], triton=host.version("triton") or ""
    )
    last = words(str(probe.get("err", "")))
    facts: dict[str, Any] = {
        "evidence": [(f"probe {name}", line[:200]) for line in last[-3:]],
        "blocks": (blocks,),
        "fix": fix,
    }
    if out.get("wrong"):
        title = f"{name}: the result is wrong: {out['wrong']}"
    elif rc == 0:
        title = f"{name}: it ended well and said nothing that can be read"
    elif rc is None:
        title = f"{name}: no answer in {probe.get('limit', 0):g} s: it hangs"
    elif rc < 0:
        word = (
            signal.Signals(-rc).name
            if -rc in {s.value for s in signal.Signals}
            else f"signal {-rc}"
        )
        title, facts["why"] = f"{name}: the process died with {word}", _death(-rc)
    else:
        title = f"{name}: {last[-1][:150] if last else f'exit {rc}'}"
    facts["observed"] = last[-1][:200] if last else f"exit {rc}"
    return (warn if optional else fail)(title, **facts)


def words(err: str) -> list[str]:
    """The lines of a child's last words that say why: the error itself stands last.

    A process that a signal ended leaves Python's own note ("Fatal Python error"), whose first frame
    says where; below it stand only lists of modules.
    """
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if fatal:
        frames = [line for line in lines[fatal[-1] :] if line.startswith('File "')]
        return [*frames[:1], lines[fatal[-1]]]
    errors = [i for i, line in enumerate(lines) if ERROR.match(line)]
    return lines[max(0, errors[-1] - 2) : errors[-1] + 1] if errors else lines[-3:]


def _death(number: int) -> str:
    return {
        signal.SIGILL: "the processor lacks an instruction that the wheel uses", signal.SIGSEGV: "a library of another version, or a damaged file",
        signal.SIGKILL: "killed, most likely for want of memory", signal.SIGBUS: "shared memory is used up", signal.SIGABRT: "a library gave up",
    }.get(signal.Signals(number), "") if number in {s.value for s in signal.Signals} else ""  # fmt: skip


def _declare(name: str) -> None:
    question, _, _, after = PROBES[name]
    add(Check(f"probe.{name}", question, lambda host: judge(host, name), after))


for _name in PROBES:
    _declare(_name)
