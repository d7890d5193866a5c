"""The machine below everything: processor, C library, memory, limits, clock."""

from __future__ import annotations

import re
import time

from ftlab_doctor import starting
from ftlab_doctor.finding import Evidence, Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

GIB = 1 << 30


@check("platform.system", "Is this a system that the wheels exist for?")
def system(host: Host) -> Finding:
    """Linux on x86-64 or Arm."""
    name, machine = host.system.get("name"), host.system.get("machine")
    if not name:
        return unknown("the snapshot does not say")
    if name != "Linux":
        return fail(
            f"{name} is not supported: the CUDA stack needs Linux",
            observed=name,
            expected="Linux",
            fix=Fix("wsl --install -d Ubuntu-22.04", "reboot", "windows")
            if name == "Windows"
            else (),
        )
    if machine in ("x86_64", "aarch64"):
        return ok(f"{name} {machine}")
    return fail(f"There are no CUDA wheels for the processor type {machine}", observed=str(machine),
                expected="x86_64 or aarch64")  # fmt: skip


@check(
    "platform.cpu", "Has the processor the instructions that the wheels use?", ["platform.system"]
)
def cpu(host: Host) -> Finding:
    """torch, pyarrow and numpy are compiled for AVX2."""
    facts = host.system.get("cpu") or {}
    if host.system.get("machine") != "x86_64":
        return skip("not an x86-64 processor")
    if not facts.get("flags"):
        return unknown("the flags of the processor are not known")
    lacking = [flag for flag in ("avx", "avx2") if flag not in facts["flags"]]
    if not lacking:
        return ok(facts.get("model", ""))
    virtual = "hypervisor" in facts["flags"]
    emulated = re.search(r"VirtualApple|QEMU TCG", facts.get("model", ""))
    return fail(
        f"The processor has no {lacking[0].upper()}: compiled wheels may die with SIGILL",
        observed=facts.get("model", ""), expected="a processor with AVX2",
        evidence=[("/proc/cpuinfo", "flags: " + " ".join(facts["flags"]))],
        why="this x86 processor is emulated: an image of another architecture was started" if emulated else
        "the virtual machine hides the instructions" if virtual else "the processor is older than 2013",
        fix=Fix("docker run --platform linux/arm64 ...  # or a machine with an x86 processor", "none", "host") if emulated else
        Fix("set the virtual machine's CPU type to `host`", "host") if virtual else (),
    )  # fmt: skip


@check("platform.glibc", "Is the C library new enough for what is installed?", ["platform.system"])
def glibc(host: Host) -> Finding:
    """The highest GLIBC_ version any compiled file asks for, and the wheels' own tags."""
    name, have = (host.system.get("libc") or ["", ""])[:2]
    if name and name != "glibc":
        return fail(
            f"The C library is {name}: CUDA wheels need glibc",
            observed=f"{name} {have}",
            expected="glibc",
        )
    if not have:
        return unknown("the version of the C library is not known")
    worst: tuple[tuple[int, ...], str] = ((), "")
    for path, facts in host.section("elf").items():
        wanted = release((facts.get("versions") or {}).get("GLIBC", ""))
        worst = max(worst, (wanted, path))
    for package in host.packages:
        for tag in package.get("tags", [])[:1]:
            floors = [(int(a), int(b)) for a, b in re.findall(r"manylinux_(\d+)_(\d+)_", tag)]
            if floors:
                worst = max(worst, (min(floors), f"{package['name']} {package['version']}"))
    if worst[0] <= release(have):
        return ok(f"glibc {have}")
    needed = ".".join(map(str, worst[0]))
    culprit = worst[1].rsplit("/", 1)[-1]
    return fail(
        f"{culprit} needs glibc {needed}; this system has {have}",
        observed=f"glibc {have}", expected=f"glibc >= {needed}",
        evidence=[(worst[1], f"GLIBC_{needed}")],
        why="it was compiled on a newer distribution", blocks=("flash",) if "flash" in worst[1] else ("train",),
        fix="pip install --no-binary :all: --no-build-isolation --force-reinstall flash-attn"
        if "flash" in worst[1] else Fix("use an image or a distribution with a newer glibc", "host"),
    )  # fmt: skip


@check("platform.python", "Is there a torch wheel for this Python?", ["env.base"])
def python(host: Host) -> Finding:
    """Interpreter version, implementation, and the tag of the torch that is installed."""
    from ftlab_doctor import rules
    from ftlab_doctor.stack import torch_version
    from ftlab_doctor.versions import satisfies

    version = host.python.get("version")
    if not version:
        return unknown("the version of Python is not known")
    if host.python.get("implementation", "cpython") != "cpython":
        return fail(f"This is {host.python['implementation']}: the CUDA wheels are for CPython")
    if host.python.get("gil") is False:
        return fail(
            "This Python runs without the GIL, which most compiled wheels do not support",
            fix="python3 -m venv .venv  # with an ordinary build of Python",
        )
    wanted = torch_version(host)
    tags = _interpreters(host)
    if tags:
        mine = "cp" + "".join(map(str, release(version)[:2]))
        if any(tag.startswith(mine) or "abi3" in tag for tag in tags):
            return ok(f"Python {version}")
        return fail(f"torch {wanted} was built for {tags[0].split('-')[0]}, and this is Python {version}", expected=mine, evidence=[("WHEEL", tags[0])],
                    fix="pip install --force-reinstall torch")  # fmt: skip
    for rule in rules.tables()["torch_python"]:
        if wanted and satisfies(wanted, rule["torch"]):
            if satisfies(version, rule["python"]):
                return ok(f"Python {version}")
            return fail(
                f"torch {wanted} has no wheels for Python {version}",
                expected=rule["python"],
                fix="make the environment anew with Python 3.11",
            )
    if wanted and release(version) >= (3, 9):
        return unknown(f"no rule knows which Pythons torch {wanted} has wheels for")
    return ok(f"Python {version}") if release(version) >= (3, 9) else fail(
        f"Python {version} is too old for any current torch", expected=">= 3.10",
        fix="make the environment anew with Python 3.11")  # fmt: skip


def _interpreters(host: Host) -> list[str]:
    """The tags of the installed torch that name an interpreter."""
    package = host.package("torch") or {}
    return [tag for tag in package.get("tags", []) if re.match(r"cp\d", tag)]


@check("platform.memory", "Is there enough main memory to load a model?")
def memory(host: Host) -> Finding:
    """RAM, or the limit of the container if that is less."""
    facts = host.system.get("memory") or {}
    total, swap = facts.get("MemTotal", 0), facts.get("SwapTotal", 0)
    if not total:
        return unknown("the size of memory is not known")
    limit = (host.system.get("cgroup") or {}).get("memory", -1)
    room = min(total, limit) if limit > 0 else total
    lent = "container" if host.in_container else "job" if host.env("SLURM_JOB_ID") else "session"
    whose = f"this {lent} may use" if room < total else "this machine has"
    if host.wsl and room + swap < 12 * GIB:
        return skip("see wsl.memory")
    if room >= 7.5 * GIB:
        return ok(f"{room / GIB:.0f} GiB")
    return warn(f"Only {room / GIB:.1f} GiB of memory {whose}: loading a 7B model will be killed",
                observed=f"{room / GIB:.1f} GiB", expected=">= 8 GiB",
                evidence=[("memory limit of the control group" if room < total else "/proc/meminfo", str(room))],
                fix=(starting.more(host, "memory") or ()) if room < total else
                Fix("sudo fallocate -l 16G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
                    "sudo swapon /swapfile", "root"))  # fmt: skip


@check("platform.killed", "Was a process killed for memory lately?")
def killed(host: Host) -> Finding:
    """The kernel's log remembers."""
    log = host.command("dmesg")
    if log is None or log.rc != 0:
        return unknown("the kernel's log cannot be read without root")
    lines = [line for line in log.out.splitlines() if "Out of memory" in line or "oom-kill" in line]
    if not lines:
        return ok("none in the kernel's log")
    match = re.search(r"Killed process \d+ \(([^)]+)\)", "\n".join(lines))
    who = match[1] if match else "a process"
    return warn(f"The kernel killed {who} for want of memory", evidence=[("dmesg", lines[-1].strip())],
                why="main memory, not GPU memory, ran out",
                fix="load in 4 bit, close other programs, or add swap")  # fmt: skip


@check("platform.limits", "Do the limits of this shell let training open files and pin memory?")
def limits(host: Host) -> Finding:
    """RLIMIT_NOFILE; RLIMIT_MEMLOCK matters where several GPUs talk over InfiniBand."""
    from ftlab_doctor.stack import gpus

    found = host.system.get("limits") or {}
    if not found:
        return unknown("the limits are not known")
    files, lock = found.get("NOFILE", -1), found.get("MEMLOCK", -1)
    if 0 <= files < 1024:
        return warn(
            f"Only {files} files may be open: data loaders fail with `Too many open files`",
            observed=str(files),
            expected=">= 1024",
            fix="ulimit -n 65536",
        )
    room, processes = found.get("AS", -1), found.get("NPROC", -1)
    if 0 <= room < 64 << 30:  # CUDA alone reserves tens of GiB of addresses
        return fail(
            f"This shell may use {room >> 30} GiB of addresses: torch and CUDA reserve far more than they touch",
            observed=f"ulimit -v {room >> 10}", expected="unlimited", evidence=[("ulimit -v", str(room >> 10))],
            why="login nodes of clusters set this; train inside a job", fix="ulimit -v unlimited",
        )  # fmt: skip
    if 0 <= processes < 512 and not host.root:
        return warn(
            f"Only {processes} processes and threads may run: data workers and OpenMP cannot start theirs",
            observed=str(processes), expected=">= 4096", blocks=("workers",), evidence=[("ulimit -u", str(processes))],
            fix="ulimit -u 4096  # or train inside a job",
        )  # fmt: skip
    if 0 <= lock < 64 * 1024 and len(gpus(host)) > 1:
        return warn(
            f"Only {lock // 1024} KiB may be locked: NCCL over InfiniBand fails",
            blocks=("multi-gpu",),
            fix=starting.more(host, "memlock") or "ulimit -l unlimited",
        )
    return ok(f"{files} files")


@check("platform.clock", "Is the clock right enough for certificates and logs?")
def clock(host: Host) -> Finding:
    """Against the newest date that this machine must have seen; with --deep, against a server."""
    now = host.system.get("time")
    if not now:
        return unknown("the time is not known")
    newest = max(host.system.get("seen", 0), 1_767_225_600)  # 2026-01-01: the doctor is younger
    probe = host.probe("hub") or {}
    skew = (probe.get("out") or {}).get("skew")
    wrong = isinstance(skew, (int, float)) and abs(skew) > 300
    if now >= newest - 86_400 and not wrong:
        return ok(time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))
    fix = (
        Fix("sudo hwclock -s", "root") if host.wsl else Fix("sudo timedatectl set-ntp true", "root")
    )
    return fail(
        "The clock is wrong: certificates are refused and logs cannot be compared",
        observed=time.strftime("%Y-%m-%d", time.gmtime(now)),
        expected=f"not before {time.strftime('%Y-%m-%d', time.gmtime(newest))}",
        evidence=[Evidence("clock", str(now))], blocks=("download",), fix=fix,
        why="WSL's clock stops while Windows sleeps" if host.wsl else "",
    )  # fmt: skip
