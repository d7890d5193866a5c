"""Cards and device nodes of a made-up /sys: whose they are, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import devices


def _put(root: Path, slot: str, **files: str) -> Path:
    folder = root / slot
    folder.mkdir(parents=True)
    for name, content in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content + "\n")
    return folder


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(devices, "PCI", str(tmp_path))
    return tmp_path


def test_cards_of_nvidia_and_amd_with_their_drivers(bus: Path) -> None:
    card = _put(bus, "0000:01:00.0", vendor="0x10de", device="0x1eb8", iommu_group__type="DMA-FQ", current_link_width="16", **{"class": "0x030200"})  # fmt: skip
    driver = bus / "drivers/nvidia"
    driver.mkdir(parents=True)
    (card / "driver").symlink_to(driver)
    _put(bus, "0000:02:00.0", vendor="0x1002", device="0x73bf", **{"class": "0x030000"})
    _put(
        bus, "0000:03:00.0", vendor="0x10de", device="0x228b", **{"class": "0x040300"}
    )  # its sound
    _put(bus, "0000:04:00.0", vendor="0x8086", device="0x1", **{"class": "0x030000"})
    facts: dict[str, Any] = {}
    devices.collect(facts)
    assert facts["pci"][0] == {
        "slot": "0000:01:00.0", "vendor": "0x10de", "class": "0x030200", "device": "0x1eb8", "driver": "nvidia",
        "iommu": "DMA-FQ", "current_link_width": "16",
    }  # fmt: skip
    assert [(card["slot"], card["driver"]) for card in facts["pci"][1:]] == [("0000:02:00.0", "")]


def test_without_a_bus_the_cards_are_not_known(bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "PCI", str(bus / "none"))
    facts: dict[str, Any] = {}
    devices.collect(facts)
    assert "pci" not in facts
    assert set(facts["devices"]) >= {"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dxg"}  # fmt: skip


def test_what_opening_a_node_says(tmp_path: Path) -> None:
    assert devices._opens("/dev/null") == ""
    assert devices._opens(str(tmp_path / "none")) == "ENOENT"
    facts: dict[str, Any] = {}
    devices._node(facts, "/dev/null")
    assert facts["devices"]["/dev/null"]["mode"].startswith("c")
    devices._node(facts, str(tmp_path))  # no device
    assert list(facts["devices"]) == ["/dev/null"]
