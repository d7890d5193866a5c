"""The NVIDIA driver: module, its match with the libraries, device nodes, CUDA version, start."""

from __future__ import annotations

import re

from ftlab_doctor import loader, stack
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

WSL = ("wsl.version", "wsl.adapter", "wsl.loader", "wsl.linux-driver")
LOADED = (
    *WSL,
    "driver.secure-boot",
    "driver.nouveau",
    "driver.branch",
    "driver.open-module",
    "driver.loaded",
)
WORKS = (*LOADED, "driver.mismatch", "container.gpu", "container.capabilities", "driver.nodes")
USABLE = (*WORKS, "driver.library", "driver.compat", "driver.nvml", "gpu.fabric", "driver.start")


def reinstall(host: Host) -> Fix:
    """The command that installs a driver on this distribution."""
    ids = (
        f"{host.system.get('os', {}).get('ID', '')} {host.system.get('os', {}).get('ID_LIKE', '')}"
    )
    new = any(cc >= (10, 0) for _, cc in stack.families(host))
    for known, command in (
        ("ubuntu", "sudo apt install --reinstall nvidia-driver-580" + ("-open" if new else "")),
        ("debian", "sudo apt install --reinstall nvidia-driver linux-headers-$(uname -r)"),
        ("fedora", "sudo dnf install akmod-nvidia"), ("rhel", "sudo dnf install nvidia-driver"),
        ("arch", "sudo pacman -S nvidia-open" if new else "sudo pacman -S nvidia"),
        ("suse", "sudo zypper install nvidia-driver-G06"),
    ):  # fmt: skip
        if known in ids:
            return Fix(f"{command} && sudo reboot", "reboot", "host")
    return Fix("install NVIDIA's driver for this kernel, then reboot", "reboot", "host")


@check("gpu.present", "Is there an NVIDIA GPU?", WSL)
def present(host: Host) -> Finding:
    """By the bus, the device nodes, or the driver."""
    if stack.expected(host):
        seen = stack.gpus(host)
        return ok(f"{len(seen) or len(stack.cards(host))} on the bus")
    if not host.has("pci") and not host.has("nvml"):
        return unknown("the snapshot says nothing of graphics cards")
    amd = [c for c in host.facts.get("pci") or [] if c.get("vendor") == "0x1002"]
    return warn(
        "There is no NVIDIA GPU here: training runs on the CPU, slowly",
        blocks=("gpu",),
        observed="an AMD card; this project's kernels are for NVIDIA"
        if amd
        else "none on the PCI bus",
        evidence=[("/sys/bus/pci/devices", "no card of vendor 10de")],
    )


@check("driver.nouveau", "Does the open-source driver leave the card alone?", WSL)
def nouveau(host: Host) -> Finding:
    """nouveau and NVIDIA's module cannot share a card."""
    bound = [
        card["slot"] for card in stack.cards(host) if card.get("driver") in ("nouveau", "nova")
    ]
    if not bound:
        return ok("nouveau holds no card") if stack.cards(host) else skip("no card on the bus")
    return fail(
        "The nouveau driver holds the GPU, so NVIDIA's cannot load", observed=f"{bound[0]}: nouveau",
        expected="nvidia", evidence=[(f"/sys/bus/pci/devices/{bound[0]}/driver", "nouveau")],
        fix=[Fix("printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | sudo tee "
                 "/etc/modprobe.d/blacklist-nouveau.conf && sudo update-initramfs -u && sudo reboot", "reboot", "host"),
             reinstall(host)],
    )  # fmt: skip


@check(
    "driver.secure-boot",
    "Does Secure Boot accept the driver's module?",
    ("wsl.version", "driver.nouveau"),
)
def secure_boot(host: Host) -> Finding:
    """With Secure Boot on, the kernel takes signed modules only."""
    if not stack.cards(host):
        return skip("no card on the bus")
    if host.exists("/sys/module/nvidia") or stack.kernel_module(host):
        return ok("the module is loaded")
    said = host.command("mokutil")
    on = host.text("SecureBoot") == "1" or bool(said and "enabled" in said.out)
    log = host.command("dmesg")
    rejected = bool(
        log and re.search(r"Key was rejected|unsigned module|Required key not available", log.out)
    )
    version, signer = host.command("modinfo version"), host.command("modinfo signer")
    built = bool(version and version.rc == 0 and version.out.strip())
    enrolled = host.command("mok enrolled")
    trusted = bool(
        signer and signer.out.strip() and enrolled and signer.out.strip() in enrolled.out
    )
    if not (rejected or (on and built and not trusted)):
        return ok("off" if not on else "no module to be refused")
    return fail(
        "Secure Boot refuses the NVIDIA module: it is not signed by a key that this machine trusts",
        observed="Secure Boot on, module built, not loaded", expected="a signed module",
        evidence=[("mokutil --sb-state", "enabled" if on else "unknown"),
                  ("modinfo -F signer nvidia", (signer.out.strip() if signer else "") or "none")],
        fix=[Fix("sudo mokutil --import /var/lib/shim-signed/mok/MOK.der && sudo reboot  # then choose Enroll MOK",
                 "reboot", "host"),
             Fix("sudo apt install linux-modules-nvidia-580-$(uname -r)  # Ubuntu's signed modules", "reboot", "host")],
    )  # fmt: skip


@check(
    "driver.loaded",
    "Is the driver loaded?",
    (*WSL, "driver.secure-boot", "driver.nouveau", "driver.branch"),
)
def loaded(host: Host) -> Finding:
    """The kernel module nvidia."""
    if host.wsl:
        return skip("WSL uses the driver of Windows")
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    version = stack.kernel_module(host)
    if version or stack.gpus(host):
        return ok(version or stack.driver(host))
    holders = {card.get("driver") for card in stack.cards(host)}
    if holders and holders <= {"vfio-pci", "pci-stub", "xen-pciback"}:
        holder = sorted(map(str, holders))[0]
        return fail(
            f"The GPU is set aside for a virtual machine ({holder})",
            observed=holder,
            expected="nvidia",
            fix=Fix(f"remove the card's id from {holder}'s options and reboot", "reboot", "host"),
        )
    barred = (host.text("modprobe nvidia") or "").splitlines()
    if barred:
        return _barred(host, barred[0])
    built = host.command("modinfo version")
    there = built is not None and built.rc == 0
    dkms = host.command("dkms")
    waiting = re.search(
        r"^nvidia\S*[/,].*?: (added|built)\b", dkms.out if dkms else "", re.MULTILINE
    )
    if waiting and not there:
        headers = (
            f"linux-headers-{host.kernel}"
            if "debian" in str(host.system.get("os")) or "ubuntu" in str(host.system.get("os"))
            else f"kernel-devel-{host.kernel}"
        )
        install = "apt" if headers.startswith("linux") else "dnf"
        return fail(
            f"The NVIDIA driver was not built for this kernel, {host.kernel}", observed=waiting[0], expected="installed",
            evidence=[("dkms status", waiting[0])], why="the kernel was updated without its headers, or its compiler is missing",
            fix=Fix(f"sudo {install} install {headers} gcc make && sudo dkms autoinstall && sudo modprobe nvidia", "root", "host"),
        )  # fmt: skip
    log = host.command("dmesg")
    other = re.search(
        r"^.*nvidia.*(version magic|disagrees about version).*",
        log.out if log else "",
        re.MULTILINE,
    )
    if other:
        return fail(
            f"The NVIDIA module on this disk was built for another kernel than {host.kernel}", observed=other[0][:120], expected="a module of this kernel",
            evidence=[("dmesg", other[0])], fix=[Fix("sudo dkms autoinstall --force && sudo modprobe nvidia", "root", "host"), reinstall(host)],
        )  # fmt: skip
    return fail(
        "The NVIDIA driver is not loaded" if there else "No NVIDIA driver is installed for this kernel",
        observed=f"no module `nvidia` in kernel {host.kernel}", expected="module nvidia",
        evidence=[("/proc/driver/nvidia/version", "missing"), *([("dkms status", dkms.out.strip()[:120])] if dkms else [])],
        why="" if there else "a kernel update without headers leaves the driver behind",
        fix=[Fix("sudo modprobe nvidia", "root", "host")] if there else [reinstall(host)],
    )  # fmt: skip


def _barred(host: Host, line: str) -> Finding:
    """A line of modprobe's settings, or of the kernel's command line, that keeps the module out."""
    where = line.partition(": ")[0]
    laptop = "prime" in line or host.which("prime-select")
    away = f"sudo rm {where} && sudo update-initramfs -u && sudo reboot"
    return fail(
        "The NVIDIA module is switched off on this machine", observed=line, expected="nothing that keeps `nvidia` out",
        evidence=[(where, line.partition(": ")[2])],
        why="the laptop was set to its other graphics card" if laptop else "a setting forbids the module",
        fix=Fix("sudo prime-select nvidia && sudo reboot" if laptop else away if where.startswith("/etc") else
                f"take it out of {where} and reboot", "reboot", "host"),
    )  # fmt: skip


@check("driver.mismatch", "Are module and libraries of one version?", LOADED)
def mismatch(host: Host) -> Finding:
    """An upgrade replaced the libraries while the old module stayed in memory."""
    module = stack.kernel_module(host)
    nvml = host.section("nvml")
    path = str(nvml.get("path") or loader.find(host, "libnvidia-ml.so.1").real)
    match = re.search(r"\.so\.(\d+\.\d+(?:\.\d+)?)$", path)
    library = match[1] if match else ""
    said = nvml.get("rc") == 18 or "version mismatch" in str(host.command("nvidia-smi") or nvml)
    if not module:
        return skip("no module is loaded")
    if not said and (not library or library == module):
        return (
            ok(module)
            if library or nvml.get("rc") == 0
            else unknown("the library's version is not known")
        )
    if host.in_container and not said:
        return ok(f"{module}; the container brings {library}")
    return fail(
        "The driver was upgraded but the old module is still running",
        observed=f"module {module}, library {library or 'of another version'}", expected="one version",
        evidence=[("/sys/module/nvidia/version", module), ("libnvidia-ml.so.1", path)],
        why="unattended upgrades replace the libraries; the module changes at the next boot",
        fix=[Fix("sudo reboot", "reboot", "host"),
             Fix("sudo apt-mark hold 'nvidia-*' 'libnvidia-*'  # so that it does not come again", "root", "host")],
    )  # fmt: skip


@check("driver.nodes", "Are the device nodes there, and may this user open them?",
       (*LOADED, "container.gpu", "driver.mismatch"))  # fmt: skip
def nodes(host: Host) -> Finding:
    """/dev/nvidiactl, /dev/nvidia-uvm and one /dev/nvidiaN for each card."""
    devices = host.section("devices")
    if host.wsl or not stack.expected(host) or not devices:
        return skip("no nodes are needed")
    cards = [name for name in devices if re.match(r"/dev/nvidia\d+\Z", name) and devices[name]]
    lacking = [n for n in ("/dev/nvidiactl", "/dev/nvidia-uvm") if devices.get(n) is False]
    lacking += [] if cards else ["/dev/nvidia0"]
    if lacking:
        recreate = Fix("docker run --gpus all ...  # create the container anew", "none", "host")
        return fail(
            f"The device node {lacking[0]} is missing", observed=f"missing: {', '.join(lacking)}",
            expected="/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm", evidence=[(lacking[0], "missing")],
            why="the module nvidia_uvm is not loaded, or the node was never made",
            fix=[Fix("sudo nvidia-modprobe -c 0 -u", "root", "host"), *([recreate] if host.in_container else [])],
        )  # fmt: skip
    shut = {
        name: node["open"]
        for name, node in devices.items()
        if node
        and node.get("open") not in ("", None)
        and re.match(r"/dev/nvidia(\d+|ctl|-uvm)\Z", name)
    }
    if not shut:
        return ok(f"{len(cards)} cards")
    name, error = next(iter(shut.items()))
    if error == "EPERM" and host.env("SLURM_JOB_ID") and not host.in_container:
        return fail(
            "This Slurm job was given no GPU", observed=f"{error} on {name}", evidence=[(f"open {name}", error), ("SLURM_JOB_ID", "set")],
            expected="a job with --gres", why="its control group forbids every card of the node", fix=Fix("srun --gres=gpu:1 --pty bash", "none", "host"),
        )  # fmt: skip
    if error == "EPERM":
        return fail(
            f"The control group forbids {name}", observed=error, evidence=[(f"open {name}", error)],
            why="systemd reloaded its units, or the job was given no GPU",
            fix=Fix("create the container anew (or ask the scheduler for a GPU: srun --gres=gpu:1)", "none", "host"),
        )  # fmt: skip
    if error in ("ENXIO", "ENODEV"):
        again = (
            [Fix("docker run --gpus all ...  # create the container anew", "none", "host")]
            if host.in_container
            else []
        )
        return fail(f"The device node {name} leads nowhere: the module was loaded anew under another number", observed=error, expected="a node of the running module",
                    evidence=[(f"open {name}", error)], fix=[*again, Fix("sudo rm /dev/nvidia*; sudo nvidia-modprobe -c 0 -u", "root", "host")])  # fmt: skip
    if error not in ("EACCES", "EPERM"):
        return fail(f"{name} does not answer ({error}): the card is lost or the driver has failed", observed=error, expected="it opens",
                    evidence=[(f"open {name}", error)], fix=Fix("sudo reboot  # and look at dmesg for Xid", "reboot", "host"))  # fmt: skip
    return fail(f"This user may not open {name}", observed=f"{error}, mode {devices[name].get('mode')}",
                evidence=[(f"open {name}", error)], expected="readable and writable",
                fix=Fix("sudo usermod -aG video,render $USER  # then log in again", "root", "host"))  # fmt: skip
