"""What a container, a pod or a job was given: processors, processes, addresses."""

from __future__ import annotations

from ftlab_doctor import stack, starting
from ftlab_doctor.finding import Finding, Fix, fail, ok, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

FEW_PROCESSES = 512


@check("platform.cores", "Are there processors for tokenizing and loading beside training?")
def cores(host: Host) -> Finding:
    """Those this process may run on, and its quota of them; threads beyond the quota only wait."""
    seen, quota = host.system.get("cores", 0), (host.system.get("cgroup") or {}).get("cpu", -1)
    if not seen:
        return unknown("the number of processors is not known")
    share = min(seen, quota / 1000) if quota > 0 else seen
    said = f"{share:g} of {seen}" if share < seen else str(seen)
    threads = host.env("OMP_NUM_THREADS") or ""
    if share >= 2:
        crowded = quota > 0 and seen >= 4 * share and not threads
        if not crowded:
            return ok(f"{said} processors")
        return warn(
            f"This process may use {share:g} of {seen} processors, and libraries start {seen} threads",
            observed=said, expected="as many threads as processors", blocks=("speed",),
            evidence=[("quota of the control group", f"{share:g} processors"), ("processors seen", str(seen))],
            why="each library asks for the number of processors, not for the quota",
            fix=f"export OMP_NUM_THREADS={max(1, int(share))}",
        )  # fmt: skip
    if not stack.expected(host):
        return ok(f"{said} processors; no GPU waits for them")
    given = starting.more(host, "cpu")
    return warn(
        f"This process may use {said} processor{'s' if share != 1 else ''}: the GPU waits for tokenizing and loading",
        observed=said, expected=">= 2", blocks=("speed",), evidence=[("processors", said)], fix=[given] if given else (),
        why="a job of Slurm gets one unless it asks" if host.env("SLURM_JOB_ID") and not host.in_container else "",
    )  # fmt: skip


@check("platform.processes", "May enough processes and threads run?")
def processes(host: Host) -> Finding:
    """pids.max of the control group: threads count too."""
    most = (host.system.get("cgroup") or {}).get("pids", -1)
    if most < 0 or most >= FEW_PROCESSES:
        return ok(f"{most} of the control group" if most >= 0 else "no limit of the control group")
    given = starting.more(host, "pids")
    return warn(
        f"Only {most} processes and threads may run here: data workers end with `Resource temporarily unavailable`",
        observed=str(most), expected=f">= {FEW_PROCESSES}", blocks=("workers",), evidence=[("pids.max", str(most))],
        fix=[given] if given else "export OMP_NUM_THREADS=4",
    )  # fmt: skip


@check("platform.overcommit", "May a process reserve more addresses than there is memory?")
def overcommit(host: Host) -> Finding:
    """vm.overcommit_memory=2 counts what CUDA only reserves. Source: proc_sys_vm(5)."""
    value = (host.text("/proc/sys/vm/overcommit_memory") or "").strip()
    if value != "2":
        return ok(f"vm.overcommit_memory = {value}" if value else "nothing speaks against it")
    total = (host.system.get("memory") or {}).get("MemTotal", 0)
    say = fail if stack.expected(host) else warn
    return say(
        "The kernel counts every reserved address as memory (vm.overcommit_memory=2): CUDA reserves more than there is",
        observed="2", expected="0 or 1", evidence=[("/proc/sys/vm/overcommit_memory", "2"), ("MemTotal", str(total))],
        why="`Cannot allocate memory` though memory is free", fix=Fix("sudo sysctl vm.overcommit_memory=1", "root", "host"),
    )  # fmt: skip
