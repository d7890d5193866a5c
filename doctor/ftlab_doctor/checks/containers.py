"""Containers, from inside (was the GPU passed?) and from the host (can Docker pass one?)."""

from __future__ import annotations

import json
import re
from typing import Any

from ftlab_doctor import loader, stack, starting
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

GIB = 1 << 30


def docker(host: Host) -> dict[str, Any] | None:
    """What `docker info` said; None if it did not answer."""
    answer = host.command("docker info")
    try:
        value = json.loads(answer.out) if answer and answer.rc == 0 else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@check("container.gpu", "Was the GPU passed into this container?", ("wsl.adapter",))
def passed(host: Host) -> Finding:
    """The host's driver shows through /proc, its device nodes do not."""
    if not host.in_container or host.wsl:
        return skip("not in a container" if not host.in_container else "see wsl.adapter")
    on_host = bool(stack.kernel_module(host) or stack.cards(host))
    nodes = [
        n
        for n, facts in host.section("devices").items()
        if facts and re.match(r"/dev/nvidia\d+\Z", n)
    ]
    if not on_host:
        return ok("the host shows no NVIDIA driver")
    if nodes:
        return ok(", ".join(nodes[:4]))
    library = bool(loader.find(host, "libcuda.so.1").path or host.section("cuda").get("path"))
    how = {"apptainer": "apptainer exec --nv ...", "kubernetes": "request nvidia.com/gpu: 1 in the pod",
           "podman": "podman run --device nvidia.com/gpu=all ..."}.get(host.container, "docker run --gpus all ...")  # fmt: skip
    void = host.env("NVIDIA_VISIBLE_DEVICES") in ("void", "none", "")
    if library:
        return fail("The driver's libraries are in the container, its device nodes are not", observed="no /dev/nvidia0", expected="/dev/nvidia0",
                    evidence=[("/dev/nvidia0", "missing"), ("libcuda.so.1", "found")], why="the CDI file has no device edits, or the devices were left out",
                    fix=[Fix("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "root", "host"), Fix(how, "none", "host")])  # fmt: skip
    return fail("The container was started without the GPU", observed="NVIDIA_VISIBLE_DEVICES=" + (host.env("NVIDIA_VISIBLE_DEVICES") or "") if void else "no /dev/nvidia0",
                expected="/dev/nvidia0", evidence=[("/proc/driver/nvidia/version", stack.kernel_module(host) or "card on the bus"), ("/dev/nvidia0", "missing")],
                fix=Fix(how, "none", "host"))  # fmt: skip


@check(
    "container.capabilities",
    "Does the container get the compute part of the driver?",
    ("container.gpu",),
)
def capabilities(host: Host) -> Finding:
    """NVIDIA_DRIVER_CAPABILITIES without compute brings nvidia-smi and no CUDA."""
    value = host.env("NVIDIA_DRIVER_CAPABILITIES")
    if not host.in_container or value is None:
        return skip("not set")
    if {"compute", "all"} & set(value.split(",")):
        return ok(value)
    gone = bool(host.section("cuda").get("missing"))
    return (fail if gone else warn)("The container has the driver without its compute part: nvidia-smi works, torch sees no GPU", observed=value,
                                    expected="compute,utility", evidence=[("NVIDIA_DRIVER_CAPABILITIES", value)],
                                    fix=Fix("docker run -e NVIDIA_DRIVER_CAPABILITIES=compute,utility --gpus all ...", "none", "host"))  # fmt: skip


@check("container.require", "Does the image accept this driver?", ("driver.loaded",))
def require(host: Host) -> Finding:
    """NVIDIA_REQUIRE_CUDA is stricter than minor version compatibility."""
    value, have = host.env("NVIDIA_REQUIRE_CUDA"), stack.driver_cuda(host)
    match = re.search(r"cuda>=(\d+)\.(\d+)", value or "")
    if not match or have is None:
        return skip("the image asks for nothing")
    needed = (int(match[1]), int(match[2]))
    if have >= needed or "NVIDIA_DISABLE_REQUIRE" in host.section("env"):
        return ok(f"CUDA {have[0]}.{have[1]} for cuda>={match[1]}.{match[2]}")
    return warn(f"The image asks for CUDA {match[1]}.{match[2]}; the driver speaks {have[0]}.{have[1]}: newer toolkits refuse to start it",
                observed=f"{have[0]}.{have[1]}", expected=f">= {match[1]}.{match[2]}", evidence=[("NVIDIA_REQUIRE_CUDA", str(value)[:80])],
                fix=Fix("docker run -e NVIDIA_DISABLE_REQUIRE=1 ...  # fine within CUDA 12", "none", "host"))  # fmt: skip


@check("container.shm", "Is shared memory large enough for data workers?")
def shm(host: Host) -> Finding:
    """Docker gives 64 MB unless told."""
    place = host.place("shm")
    total = place.get("total")
    if not total:
        return (
            unknown("/dev/shm was not looked at")
            if not place
            else fail("/dev/shm is missing", fix=Fix("sudo mount -t tmpfs tmpfs /dev/shm", "root"))
        )
    if total >= GIB:
        return ok(f"{total / GIB:.0f} GiB")
    small = total <= 256 << 20
    say = fail if host.in_container and small else warn
    return say(
        f"/dev/shm has only {total >> 20} MB: data loader workers die with a bus error", observed=f"{total >> 20} MB", expected=">= 1 GiB",
        evidence=[("/dev/shm", f"{total} bytes")], blocks=("workers", "multi-gpu"),
        why="64 MB is what containers get unless they ask" if host.in_container and small else "",
        fix=starting.more(host, "shm") or Fix("sudo mount -o remount,size=8G /dev/shm", "root", "host"),
    )  # fmt: skip


@check("container.volumes", "Can the mounted folders be written?", ("cache.home",))
def volumes(host: Host) -> Finding:
    """A volume that belongs to another user than the container's."""
    if not host.in_container:
        return skip("not in a container")
    uid = host.system.get("uid")
    for name in ("cwd", "runs", "hf"):
        place = host.place(name)
        if place.get("refused") in ("EACCES", "EPERM") and place.get("owner") not in (None, uid):
            return fail(f"{place['path']} belongs to user {place['owner']} and the container runs as {uid}", observed=f"owner {place['owner']}", expected=f"owner {uid}",
                        evidence=[(place["nearest"], f"owner {place['owner']}, mode {place.get('mode')}")],
                        fix=[Fix("docker run --user $(id -u):$(id -g) ...", "none", "host"), Fix(f"sudo chown -R {uid} FOLDER  # on the host", "root", "host")])  # fmt: skip
    for name in ("cwd", "runs", "hf"):
        place = host.place(name)
        if host.root and place.get("refused") in ("EACCES", "EPERM"):
            mount = host.mount_of(place.get("nearest", ""))
            if mount and mount.kind.startswith("nfs"):
                return fail(f"{place['path']} lies on NFS, whose server lets root of another machine write nothing", observed=str(place["refused"]), expected="writable",
                            evidence=[("/proc/mounts", f"{mount.point} {mount.kind}")], fix=Fix("docker run --user $(id -u):$(id -g) ...", "none", "host"))  # fmt: skip
            return fail(f"Even root may not write {place['path']} here: the host's SELinux or AppArmor forbids it", observed=str(place["refused"]), expected="writable",
                        evidence=[(place["nearest"], f"{place['refused']} as user 0, mode {place.get('mode')}")], why="the volume has no label for containers",
                        fix=Fix("docker run -v FOLDER:FOLDER:z ...  # z labels it", "none", "host"))  # fmt: skip
    return ok(f"user {uid}")


@check("docker.daemon", "Does the Docker daemon answer?")
def daemon(host: Host) -> Finding:
    """Only asked outside containers and where Docker is installed."""
    answer = host.command("docker info")
    if host.in_container or answer is None:
        return skip("no Docker here" if not host.in_container else "in a container")
    if docker(host):
        return ok(f"Docker {(docker(host) or {}).get('version', '')}")
    words = answer.text
    if "permission denied" in words:
        return fail(
            "This user may not use Docker",
            observed="permission denied",
            blocks=("docker",),
            evidence=[("docker info", words[:160])],
            fix=Fix("sudo usermod -aG docker $USER && newgrp docker", "root", "host"),
        )
    if answer.rc is None:
        return warn(
            "The Docker daemon does not answer",
            observed=words[:80] or "no answer in 3 s",
            blocks=("docker",),
            fix=Fix("sudo systemctl restart docker", "root", "host"),
        )
    return warn("The Docker daemon is not running", observed=words[:120], blocks=("docker",), evidence=[("docker info", words[:160])],
                fix=Fix("sudo systemctl enable --now docker", "root", "host"))  # fmt: skip


@check("docker.kind", "Is it the Docker that can see the GPU?", ("docker.daemon",))
def kind(host: Host) -> Finding:
    """Snap's Docker and Docker Desktop run where the host's driver is not visible."""
    said = docker(host)
    if not said or not stack.expected(host):
        return skip("no Docker, or no GPU")
    snap = str(said.get("root", "")).startswith("/var/snap/")
    desktop = "Desktop" in str(said.get("os", "")) and not host.wsl
    if not snap and not desktop:
        return ok(str(said.get("root", "")))
    what = "Docker from snap" if snap else "Docker Desktop for Linux"
    return fail(f"{what} cannot see the host's GPU driver", observed=str(said.get("root")), expected="docker-ce", blocks=("docker",),
                evidence=[("docker info", f"DockerRootDir {said.get('root')}, {said.get('os')}")],
                fix=[Fix("sudo snap remove docker && sudo apt install docker-ce" if snap else "docker context use default", "root" if snap else "none", "host")])  # fmt: skip


@check(
    "docker.toolkit", "Can Docker pass a GPU?", ("docker.daemon", "docker.kind", "driver.loaded")
)
def toolkit(host: Host) -> Finding:
    """The nvidia runtime or a CDI file."""
    said = docker(host)
    if not said or not stack.expected(host):
        return skip("no Docker, or no GPU")
    runtime = "nvidia" in (said.get("runtimes") or {})
    hook = host.which("nvidia-ctk") or host.exists("/usr/bin/nvidia-container-runtime-hook")
    if runtime:
        return ok("the nvidia runtime is configured")
    spec = host.exists("/etc/cdi/nvidia.yaml") or host.exists("/var/run/cdi/nvidia.yaml")
    if hook and spec:
        return ok("CDI")
    if hook and release(str(said.get("version", "0"))) < (28,):
        return warn(
            "The NVIDIA toolkit is installed but Docker was not told of it",
            observed=f"runtimes: {', '.join(said.get('runtimes') or {})}",
            expected="nvidia",
            evidence=[("docker info", "no runtime nvidia")],
            blocks=("docker",),
            fix=Fix(
                "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
                "root",
                "host",
            ),
        )
    if hook:
        return skip("see docker.cdi")
    return fail("Docker cannot pass the GPU: nvidia-container-toolkit is not installed", observed=f"runtimes: {', '.join(said.get('runtimes') or {})}", expected="nvidia",
                evidence=[("docker info", "no runtime nvidia"), ("nvidia-ctk", "not found")], blocks=("docker",), why="`could not select device driver`",
                fix=[Fix("sudo apt install -y nvidia-container-toolkit", "root", "host"),
                     Fix("sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker", "root", "host")])  # fmt: skip


@check(
    "docker.cdi",
    "Is there a CDI file for a Docker that wants one?",
    ("docker.daemon", "docker.kind", "docker.toolkit"),
)
def cdi(host: Host) -> Finding:
    """From 28 on, `--gpus` goes by CDI where no runtime is configured."""
    said = docker(host)
    if not said or not stack.expected(host):
        return skip("no Docker, or no GPU")
    stale = _stale(host)
    if stale:
        return stale
    if "nvidia" in (said.get("runtimes") or {}) or release(str(said.get("version", "0"))) < (28,):
        return ok("not needed")
    if any(
        "nvidia" in name
        for folder in ("/etc/cdi", "/var/run/cdi")
        for name in host.listing(folder) or []
    ):
        return ok("there")
    return fail("Docker finds no GPU by CDI: there is no CDI file", observed="/etc/cdi is empty", expected="/etc/cdi/nvidia.yaml", blocks=("docker",),
                evidence=[("/etc/cdi", str(host.listing("/etc/cdi"))), ("docker", str(said.get("version")))],
                fix=Fix("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "root", "host"))  # fmt: skip


def _stale(host: Host) -> Finding | None:
    """A CDI file names the driver's libraries with their version; after an update they are gone."""
    now = stack.kernel_module(host)
    for path in ("/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml"):
        made = set(re.findall(r"\.so\.(\d+\.\d+(?:\.\d+)?)", host.text(path) or ""))
        if now and made and now not in made:
            return fail(f"The CDI file was made for driver {max(made)}, and {now} runs: containers do not start", observed=max(made), expected=now,
                        blocks=("docker",), evidence=[(path, f"libcuda.so.{max(made)}"), ("/sys/module/nvidia/version", now)],
                        fix=Fix(f"sudo nvidia-ctk cdi generate --output={path}", "root", "host"))  # fmt: skip
    return None


@check(
    "docker.rootless", "Is rootless Docker set up for the GPU?", ("docker.daemon", "docker.toolkit")
)
def rootless(host: Host) -> Finding:
    """Without root the toolkit must leave the control groups alone."""
    said = docker(host)
    if (
        not said
        or not stack.expected(host)
        or not any("rootless" in str(s) for s in said.get("security") or [])
    ):
        return skip("not rootless")
    if _without_groups(host) or any("nvidia" in n for n in host.listing("/etc/cdi") or []):
        return ok("no-cgroups = true")
    return fail("Rootless Docker cannot pass the GPU: the toolkit still wants control groups", observed="no-cgroups = false", expected="true", blocks=("docker",),
                evidence=[("/etc/nvidia-container-runtime/config.toml", "no-cgroups")],
                fix=Fix("sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place", "root", "host"))  # fmt: skip


def _without_groups(host: Host) -> bool:
    config = host.text("/etc/nvidia-container-runtime/config.toml") or ""
    return bool(re.search(r"^\s*no-cgroups\s*=\s*true", config, re.MULTILINE))


@check("docker.no-cgroups", "May containers of a Docker with root open the cards?", ("docker.daemon", "docker.toolkit"))  # fmt: skip
def no_cgroups(host: Host) -> Finding:
    """no-cgroups = true is for rootless engines: with root, nobody gives the container the device."""
    said = docker(host)
    if not said or not stack.expected(host) or not _without_groups(host):
        return skip("does not arise") if not said or not stack.expected(host) else ok("false")
    if any("rootless" in str(s) for s in said.get("security") or []):
        return ok("rootless, which wants it so")
    return fail(
        "The NVIDIA toolkit is set up for rootless engines, and this Docker runs as root: no container may open a card",
        observed="no-cgroups = true", expected="false", blocks=("docker",), evidence=[("/etc/nvidia-container-runtime/config.toml", "no-cgroups = true")],
        fix=Fix("sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place && sudo systemctl restart docker", "root", "host"),
        why="NVML says Unknown Error there, in WSL: GPU access blocked by the operating system",
        url="NVIDIA/nvidia-container-toolkit 381, 85; microsoft/WSL 9938",
    )  # fmt: skip


@check("podman.cdi", "Can podman, where there is no Docker, pass a GPU?", ("driver.loaded",))
def podman(host: Host) -> Finding:
    """By a CDI file, which is all that podman knows."""
    if host.in_container or not host.which("podman") or host.command("docker info"):
        return skip("no podman, or a Docker is asked")
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    if (stale := _stale(host)) is not None:
        return stale
    if any("nvidia" in n for f in ("/etc/cdi", "/var/run/cdi") for n in host.listing(f) or []):
        return ok("CDI")
    tool = host.which("nvidia-ctk")
    return warn(
        "podman cannot pass the GPU: there is no CDI file", observed="/etc/cdi is empty", expected="/etc/cdi/nvidia.yaml", blocks=("docker",),
        evidence=[("/etc/cdi", str(host.listing("/etc/cdi"))), ("nvidia-ctk", str(tool or "not found"))],
        fix=[*([] if tool else [Fix("sudo dnf install -y nvidia-container-toolkit" if "fedora" in str(host.system.get("os")) else
                                    "sudo apt install -y nvidia-container-toolkit", "root", "host")]),
             Fix("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "root", "host")],
    )  # fmt: skip


@check(
    "docker.cgroup", "Will running containers keep their GPU?", ("docker.daemon", "docker.toolkit")
)
def cgroup(host: Host) -> Finding:
    """With systemd's control groups a daemon-reload takes it away unless /dev/char links exist."""
    said = docker(host)
    if (
        not said
        or not stack.expected(host)
        or host.wsl
        or said.get("cgroup") != "systemd"
        or not stack.kernel_module(host)
    ):
        return skip("does not arise")
    if any(name.startswith("195:") for name in host.listing("/dev/char") or []):
        return ok("/dev/char/195:*")
    if any("nvidia" in n for f in ("/etc/cdi", "/var/run/cdi") for n in host.listing(f) or []):
        return ok("CDI")
    return warn("A `systemctl daemon-reload` will take the GPU from running containers", observed="no /dev/char/195:*", expected="links to the device nodes",
                evidence=[("docker info", "CgroupDriver systemd"), ("/dev/char", "no 195:*")], blocks=("docker",),
                fix=Fix("sudo nvidia-ctk system create-dev-char-symlinks --create-all", "root", "host"))  # fmt: skip
