"""Several cards in one machine: of one kind, and able to talk to each other."""

from __future__ import annotations

import re

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.gpu import ASKED, each
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release


@check("gpu.mixed", "Are the cards of one kind?", ASKED)
def mixed(host: Host) -> Finding:
    """A wheel or a precision that suits one may not suit the other."""
    found, reason = each(host)
    if reason or len(found) < 2:
        return reason or skip("one card")
    kinds = {g.cc for g in found}
    if len(kinds) == 1 or len((host.env("CUDA_VISIBLE_DEVICES") or "x,x").split(",")) == 1:
        return ok(f"{len(found)} x {found[0].sm}")
    best = max(found, key=lambda g: (g.cc or (0, 0), g.total))
    order = host.env("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return warn(
        f"The cards differ ({', '.join(f'{g.name} {g.sm}' for g in found)}): CUDA numbers them fastest first, nvidia-smi by bus",
        why="the number that you choose may be another card",
        blocks=("multi-gpu",),
        fix=[
            *([] if order else ["export CUDA_DEVICE_ORDER=PCI_BUS_ID"]),
            f"export CUDA_VISIBLE_DEVICES={best.index}",
        ],
    )


@check("gpu.p2p", "Can the cards talk to each other?", ASKED)
def p2p(host: Host) -> Finding:
    """RTX 40 cards have no P2P, and old drivers claim that they have."""
    found, reason = each(host)
    if reason or len(found) < 2:
        return reason or skip("one card")
    for rule in rules.tables()["p2p"]:
        old = release(stack.driver(host)) < release(rule["driver"])
        if old and sum(bool(re.search(rule["names"], g.name)) for g in found) >= 2:
            if host.env("NCCL_P2P_DISABLE") == "1" and host.env("NCCL_IB_DISABLE") == "1":
                return ok("NCCL_P2P_DISABLE=1")
            return fail(
                "Two RTX 40 cards with this driver hang or fail in NCCL: they have no peer-to-peer",
                observed=f"driver {stack.driver(host)}",
                expected=f">= {rule['driver']}, or P2P off",
                blocks=("multi-gpu",),
                fix=["export NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1"],
                url=rule["source"],
            )
    return ok(f"{len(found)} cards")


@check("gpu.iommu", "Does nothing stand between the cards on the PCIe bus?", (*ASKED, "gpu.p2p"))
def iommu(host: Host) -> Finding:
    """A translating IOMMU sends what one card writes to another through the processor.

    Source: NCCL user guide, "Troubleshooting", PCI Access Control Services.
    """
    found, reason = each(host)
    if reason or len(found) < 2:
        return reason or skip("one card")
    kinds = {str(card["iommu"]) for card in stack.cards(host) if card.get("iommu")}
    if not kinds:
        return unknown("the cards' IOMMU groups are not known")
    virtual = "hypervisor" in (host.system.get("cpu") or {}).get("flags", [])
    translating = sorted(kind for kind in kinds if kind.startswith("DMA"))
    if not translating or virtual or host.env("NCCL_P2P_DISABLE") == "1":
        return ok(", ".join(sorted(kinds)))
    linked = any(g.facts.get("nvlink") for g in found)
    if linked:
        return ok("the cards are linked by NVLink")
    return warn(
        "The IOMMU translates between the cards: NCCL over PCIe is slow, and hangs on some machines",
        observed=translating[0], expected="identity", blocks=("multi-gpu",), evidence=[("iommu_group/type", translating[0])],
        fix=[Fix("add iommu=pt to GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub && sudo reboot", "reboot", "host"),
             Fix("export NCCL_P2P_DISABLE=1  # until then")],
    )  # fmt: skip
