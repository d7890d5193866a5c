"""How more is asked of whatever started this process: an engine, a pod, a scheduler."""

from __future__ import annotations

from ftlab_doctor.finding import Fix
from ftlab_doctor.host import Host

# what is asked for: by an engine's `run`, in a pod's description, of Slurm; "" where it cannot be
ASKED = {
    "memory": ("--memory=32g", "resources.limits.memory: 32Gi", "--mem=32G"),
    "cpu": ("--cpus=8", "resources.limits.cpu: 8", "--cpus-per-task=8"),
    "pids": ("--pids-limit=-1", "podPidsLimit: -1 of its node", ""),
    "shm": ("--shm-size=8g", "an emptyDir of medium Memory, mounted at /dev/shm", ""),
    "memlock": ("--ulimit memlock=-1", "", ""),
}
OTHERWISE = {"shm": "  # or --ipc=host"}


def more(host: Host, what: str) -> Fix | None:
    """The change that gives this process more of `what`; None if nothing lent it."""
    engine, pod, slurm = ASKED[what]
    kind = host.container
    if kind == "kubernetes":
        return Fix(f"kubectl edit ...  # give the pod {pod}", "none", "host") if pod else None
    if kind in ("docker", "podman"):
        return Fix(f"{kind} run {engine} ...{OTHERWISE.get(what, '')}", "none", "host")
    if host.env("SLURM_JOB_ID") and slurm:
        return Fix(f"sbatch {slurm} ...  # or srun {slurm}", "none", "host")
    return None
