"""Views on a snapshot that several checks share: the cards, the driver, what torch was built for."""

from __future__ import annotations

import re
from typing import Any

from ftlab_doctor import rules
from ftlab_doctor.host import Host
from ftlab_doctor.versions import minor, release


class Gpu:
    """One card (or visible device)."""

    def __init__(self, index: int, name: str, cc: tuple[int, int] | None, total: int, facts: dict[str, Any]) -> None:  # fmt: skip
        self.index, self.name, self.cc, self.total, self.facts = index, name, cc, total, facts

    @property
    def sm(self) -> str:
        """Such as "sm_86"."""
        return f"sm_{self.cc[0]}{self.cc[1]}" if self.cc else "sm_?"


def cards(host: Host) -> list[dict[str, Any]]:
    """NVIDIA graphics or compute cards on the PCI bus; empty inside WSL."""
    pci = host.facts.get("pci")
    return [
        card for card in (pci if isinstance(pci, list) else [])
        if card.get("vendor") == "0x10de" and str(card.get("class", "")).startswith("0x03")
    ]  # fmt: skip


def nvswitches(host: Host) -> bool:
    """Whether NVSwitch chips are on the bus."""
    pci = host.facts.get("pci")
    rows = pci if isinstance(pci, list) else []
    return any(
        c.get("vendor") == "0x10de" and c.get("class", "").startswith("0x0680") for c in rows
    )


def gpus(host: Host) -> list[Gpu]:
    """The cards that the driver can see; from NVML, else from the CUDA driver."""
    devices = host.section("cuda").get("devices") or []
    found = host.section("nvml").get("gpus") or devices
    # NVML does not count memory that a card shares with the processor; CUDA does.
    total = devices[0].get("total") if len(devices) == len(found) == 1 else 0
    return [
        Gpu(g.get("index", i), g.get("name") or "NVIDIA GPU", tuple(g["cc"]) if g.get("cc") else None,
            g.get("total") or total or 0, g)
        for i, g in enumerate(found) if g.get("rc", 0) == 0
    ]  # fmt: skip


def expected(host: Host) -> bool:
    """Whether this machine has an NVIDIA GPU, by any sign at all."""
    return bool(
        cards(host) or gpus(host) or host.listing("/proc/driver/nvidia/gpus")
        or isinstance(host.section("devices").get("/dev/nvidia0"), dict)
        or (host.wsl and host.exists("/usr/lib/wsl/lib/libcuda.so.1"))
    )  # fmt: skip


def families(host: Host) -> list[tuple[str, tuple[int, int]]]:
    """Family and least compute capability of each card, by its PCI number: needs no driver."""
    found = []
    for card in cards(host):
        rule = rules.family(str(card.get("device", "")))
        if rule:
            found.append((rule["name"], (rule["cc"][0], rule["cc"][1])))
    return found


def capabilities(host: Host) -> list[tuple[int, int]]:
    """Compute capabilities of the cards, known exactly or by family; sorted, lowest first."""
    exact = [gpu.cc for gpu in gpus(host) if gpu.cc]
    return sorted(exact or [cc for _, cc in families(host)])


def driver(host: Host) -> str:
    """The version of the driver; "" if unknown."""
    return str(host.section("nvml").get("driver") or kernel_module(host) or "")


def kernel_module(host: Host) -> str:
    """The version of the loaded kernel module."""
    plain = (host.text("/sys/module/nvidia/version") or "").strip()
    if plain:
        return plain
    match = re.search(
        r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", host.text("/proc/driver/nvidia/version") or ""
    )
    return match[1] if match else ""


def driver_cuda(host: Host) -> tuple[int, int] | None:
    """The newest CUDA that the driver speaks, such as (12, 2)."""
    number = host.section("cuda").get("version") or host.section("nvml").get("cuda")
    return (number // 1000, number % 1000 // 10) if isinstance(number, int) else None


def torch_cuda(host: Host) -> str:
    """The CUDA that torch was built with, such as "12.1"; "" for a CPU build or no torch."""
    return str(host.build("torch").get("cuda") or "")


def torch_version(host: Host) -> str:
    """The version that `torch.__version__` would say."""
    return str(host.build("torch").get("version") or host.version("torch") or "")


def torch_arch(host: Host) -> list[str] | None:
    """Architectures in the installed wheel: read out of it, else by rule; None if unknown."""
    built = host.build("torch")
    return built.get("arch") or rules.torch_arch(torch_version(host), torch_cuda(host))


def runs_on(arch: list[str], cc: tuple[int, int]) -> bool:
    """Whether code for `arch` runs on a card: cubin X.Y on X.Z with Z >= Y, or older PTX.

    "a" and "f" variants (sm_90a) run on exactly their own capability. Source: CUDA C++ programming
    guide, binary and PTX compatibility.
    """
    for name in arch:
        match = re.match(r"(sm|compute)_(\d+)(\d)([a-z]?)\Z", name)
        if not match:
            continue
        built = (int(match[2]), int(match[3]))
        if match[4]:
            if built == cc:
                return True
        elif match[1] == "compute":
            if built <= cc:
                return True
        elif built[0] == cc[0] and built[1] <= cc[1]:
            return True
    return False


def wheel_tag(cuda: str) -> str:
    """ "cu121" of "12.1"."""
    return "cu" + minor(cuda).replace(".", "")


def install_torch(host: Host, cc: tuple[int, int]) -> str:
    """A command that installs a torch with code for `cc` that this driver can run."""
    major = release(driver(host))[:1]
    if cc >= (10, 0):
        tag, spec = "cu128", "torch==2.10.0"
        if major and major[0] >= 580 and cc >= (12, 1):
            tag, spec = "cu130", "'torch>=2.11'"
    elif cc < (7, 0) or cc < (7, 5):
        tag, spec = "cu126", "'torch>=2.6'"
    else:
        tag, spec = "cu128", "torch==2.10.0"
    return f"pip install --force-reinstall {spec} -i https://download.pytorch.org/whl/{tag}"


def summary(host: Host) -> str:
    """One line: what this machine is."""
    system = host.system.get("os", {}).get("PRETTY_NAME") or host.system.get("name", "?")
    parts = [str(system) + (f" on WSL {host.wsl}" if host.wsl else "")]
    if host.container:
        parts[0] += f" in {host.container}"
    seen = gpus(host)
    names: dict[str, int] = {}
    for gpu in seen:
        names[f"{gpu.name} ({gpu.sm})"] = names.get(f"{gpu.name} ({gpu.sm})", 0) + 1
    parts += [(f"{count} x " if count > 1 else "") + name for name, count in names.items()]
    if not seen:
        parts.append("GPU not usable" if expected(host) else "no NVIDIA GPU")
    if driver(host):
        parts.append(f"driver {driver(host)}")
    torch = torch_version(host)
    parts.append(f"torch {torch}" if torch else "no torch")
    parts.append(f"Python {host.python.get('version', '?')}")
    return " · ".join(parts)
