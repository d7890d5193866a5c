"""PCI cards and device nodes, read from /sys and /dev: no lspci, no root."""

from __future__ import annotations

import os
import stat
from typing import Any

from ftlab_doctor.collect.reading import names, put, text

PCI = "/sys/bus/pci/devices"
VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
CLASSES = ("0x0300", "0x0302", "0x0380", "0x0680", "0x1200")


def collect(facts: dict[str, Any]) -> None:
    """Fill `pci` (graphics and NVSwitch only) and `devices`."""
    slots = names(PCI)
    if slots is not False:
        facts["pci"] = [card for slot in slots if (card := _card(slot))]
    facts["devices"] = {}
    for name in names("/dev") or []:
        if name.startswith("nvidia") or name in ("dxg", "kfd"):
            _node(facts, f"/dev/{name}")
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "dxg"):
        facts["devices"].setdefault(f"/dev/{name}", False)


def _card(slot: str) -> dict[str, Any] | None:
    folder = f"{PCI}/{slot}/"
    class_ = str(text(folder + "class")).strip()
    vendor = str(text(folder + "vendor")).strip()
    if vendor not in VENDORS or not class_.startswith(CLASSES):
        return None
    card: dict[str, Any] = {"slot": slot, "vendor": vendor, "class": class_}
    card["device"] = str(text(folder + "device")).strip()
    try:
        card["driver"] = os.path.basename(os.readlink(folder + "driver"))
    except OSError:
        card["driver"] = ""
    kind = text(folder + "iommu_group/type")
    if isinstance(kind, str) and kind.strip():
        card["iommu"] = kind.strip()
    for name in ("current_link_width", "max_link_width", "current_link_speed", "max_link_speed"):
        value = text(folder + name)
        if isinstance(value, str):
            card[name] = value.strip()
    return card


def _node(facts: dict[str, Any], path: str) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return
    if not stat.S_ISCHR(status.st_mode):
        return
    put(facts, "devices", path, {
        "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev),
        "mode": stat.filemode(status.st_mode), "gid": status.st_gid, "open": _opens(path),
    })  # fmt: skip


def _opens(path: str) -> str:
    """ "" if it can be opened for use, else the name of the error (EPERM: the control group)."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        import errno

        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ""
