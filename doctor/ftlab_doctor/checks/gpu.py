"""Each card: visible, healthy, free, and what it is mixed with."""

from __future__ import annotations

import re

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.driver import WORKS
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

GIB = 1 << 30
ASKED = (*WORKS, "driver.library", "driver.nvml", "gpu.lost")
THROTTLE = {0x8: "the hardware slows down", 0x40: "heat", 0x80: "the power brake", 0x20: "heat"}
FATAL_XIDS = {
    48: "double-bit ECC error", 61: "internal controller fault", 62: "internal controller fault",
    63: "row remapped", 64: "row remapping failed", 74: "NVLink error", 79: "the card fell off the bus",
    92: "many single-bit ECC errors", 94: "contained ECC error", 95: "uncontained ECC error",
    119: "the card's own processor does not answer", 120: "the card's own processor failed",
}  # fmt: skip


def each(host: Host) -> tuple[list[stack.Gpu], Finding | None]:
    """The cards, or the reason to skip."""
    found = stack.gpus(host)
    return found, None if found else skip("no GPU to ask")


@check(
    "gpu.lost",
    "Does every card on the bus answer?",
    (*WORKS, "driver.library", "driver.nvml", "driver.note", "gpu.xid"),
)
def lost(host: Host) -> Finding:
    """Fewer cards than the bus shows, or one whose handle cannot be had."""
    nvml = host.section("nvml")
    if nvml.get("rc") != 0 or host.in_container or host.wsl:
        return skip("only told where the driver runs, outside containers")
    bad = [g for g in nvml.get("gpus", []) if g.get("rc")]
    ours = [c for c in stack.cards(host) if c.get("driver") == "nvidia"]
    count = len(nvml.get("gpus", [])) - len(bad)
    if not bad and count >= len(ours):
        return ok(f"{count} of {len(ours) or count}")
    title = (
        "The driver finds no card"
        if count == 0
        else f"{len(ours) - count or len(bad)} of {len(ours)} cards do not answer"
    )
    return fail(title, observed=f"{count} answer", expected=f"{len(ours)}",
                evidence=[("nvmlDeviceGetHandleByIndex", str(bad[0]["rc"]) if bad else f"{count} devices")],
                why="the card fell off the bus: power, heat, seating or the board",
                fix=[Fix("sudo poweroff  # then reseat the card and check its power cables", "reboot", "host"),
                     Fix("sudo nvidia-smi -lgc 0,1500  # if it comes back: cap the clocks", "root", "host")])  # fmt: skip


@check("gpu.xid", "Did the driver report faults of a card?", WORKS)
def xid(host: Host) -> Finding:
    """Xid messages in the kernel's log, the grave ones."""
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    log = host.command("dmesg")
    if log is None or log.rc != 0:
        return unknown("the kernel's log cannot be read without root")
    found = [
        (int(m[1]), line.strip())
        for line in log.out.splitlines()
        if (m := re.search(r"Xid.*?: (\d+)[,:]", line))
    ]
    grave = [(number, line) for number, line in found if number in FATAL_XIDS]
    if not grave:
        return ok(f"{len(found)} Xid lines, none grave" if found else "none")
    number, line = grave[-1]
    healthy = bool(stack.gpus(host)) and number not in (64, 95, 48)
    say = warn if healthy else fail
    return say(f"The driver reported Xid {number}: {FATAL_XIDS[number]}", observed=line[:160], evidence=[("dmesg", line[:200])],
               why="a fault of the hardware or its power, not of your program",
               fix=[Fix("sudo nvidia-smi -r  # or power off and on", "root", "host"),
                    Fix("check power cables and cooling; if it returns, have the card replaced", "host", "host")])  # fmt: skip


@check("gpu.fabric", "Is the fabric manager ready on this NVSwitch machine?", WORKS)
def fabric(host: Host) -> Finding:
    """Without it, CUDA answers 802."""
    switch = stack.nvswitches(host)
    answer, init = host.command("fabricmanager"), host.section("cuda").get("init")
    if not switch and init != 802:
        return skip("no NVSwitch")
    active = bool(answer and answer.out.strip() == "active")
    if init == 0 or (active and init != 802):
        return ok("active" if active else "CUDA starts")
    version = stack.driver(host)
    return fail("The fabric manager is not running: CUDA answers 802 on this NVSwitch machine",
                observed=(answer.out.strip() if answer else "") or f"cuInit = {init}", expected="active",
                evidence=[("systemctl is-active nvidia-fabricmanager", answer.out.strip() if answer else "?"), ("cuInit", str(init))],
                fix=[Fix(f"sudo apt install nvidia-fabricmanager-{'.'.join(map(str, release(version)[:1])) or '<driver>'}={version}-1", "root", "host"),
                     Fix("sudo systemctl enable --now nvidia-fabricmanager", "root", "host")])  # fmt: skip


@check(
    "gpu.visible", "Do the environment variables show CUDA the cards?", (*WORKS, "driver.library")
)
def visible(host: Host) -> Finding:
    """CUDA_VISIBLE_DEVICES: numbers in range, UUIDs that exist."""
    value = host.env("CUDA_VISIBLE_DEVICES")
    found = stack.gpus(host)
    if value is None:
        return ok("CUDA_VISIBLE_DEVICES is not set")
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    known = [str(g.facts.get("uuid") or "") for g in found]
    slices = [s for g in found for s in g.facts.get("slices") or []]
    wrong = ""
    parts = [part.strip() for part in value.split(",")]
    for part in parts:
        if part.startswith("MIG-"):
            valid = not slices or part in slices
        elif part.startswith("GPU-"):
            valid = not any(known) or any(uuid.startswith(part) for uuid in known)
        else:
            valid = part.isdigit() and (not host.has("nvml") or not found or int(part) < len(found))
        if not valid:
            wrong = part
            break
    twice = next((part for part in parts if parts.count(part) > 1), "")
    if twice and not wrong:
        return fail(f"CUDA_VISIBLE_DEVICES names {twice} twice, which CUDA refuses", observed=f"CUDA_VISIBLE_DEVICES={value}", expected="each card once",
                    evidence=[("CUDA_VISIBLE_DEVICES", value)], fix=f"export CUDA_VISIBLE_DEVICES={','.join(dict.fromkeys(parts))}")  # fmt: skip
    if not wrong and value:
        return ok(value)
    title = ("CUDA_VISIBLE_DEVICES hides every GPU" if value in ("", "-1", "NoDevFiles") or wrong == parts[0]
             else f"CUDA_VISIBLE_DEVICES names {wrong}, which does not exist: it and all after it are hidden")  # fmt: skip
    mig = "MIG-" in value
    return fail(title, observed=f"CUDA_VISIBLE_DEVICES={value}", expected=f"0 to {max(len(found) - 1, 0)}, or a UUID that exists",
                evidence=[("CUDA_VISIBLE_DEVICES", value), *[("nvidia-smi -L", s) for s in slices[:2]]],
                fix=f"export CUDA_VISIBLE_DEVICES={slices[0]}" if mig and slices else "unset CUDA_VISIBLE_DEVICES")  # fmt: skip


@check("gpu.mig", "Is a card cut into slices, and one of them chosen?", ASKED)
def mig(host: Host) -> Finding:
    """One process sees one slice."""
    found, reason = each(host)
    if reason:
        return reason
    cut = [g for g in found if (g.facts.get("mig") or [0, 0])[0] == 1]
    waiting = [
        g for g in found if (g.facts.get("mig") or [0, 0])[0] != (g.facts.get("mig") or [0, 0])[1]
    ]
    if waiting:
        return warn(
            f"GPU {waiting[0].index}: a change of MIG mode waits for a reset",
            fix=Fix("sudo nvidia-smi --gpu-reset", "root", "host"),
        )
    if not cut:
        return ok("off")
    slices = [s for g in cut for s in g.facts.get("slices") or []]
    if not slices:
        return fail(
            f"GPU {cut[0].index} is in MIG mode but has no slice",
            expected="a slice",
            observed="none",
            fix=[
                Fix("sudo nvidia-smi mig -cgi 0 -C", "root", "host"),
                Fix("sudo nvidia-smi -mig 0", "root", "host"),
            ],
        )
    world = host.env("WORLD_SIZE") or "1"
    if world.isdigit() and int(world) > 1:
        return fail(
            "Several processes were asked for, but a process can use one MIG slice only and they cannot talk",
            observed=f"WORLD_SIZE={world}",
            expected="1",
            blocks=("multi-gpu",),
            fix="unset WORLD_SIZE RANK LOCAL_RANK",
        )
    chosen = host.env("CUDA_VISIBLE_DEVICES")
    if len(slices) == 1 or (chosen and "MIG-" in chosen and "," not in chosen):
        return ok(f"{len(slices)} slices")
    return warn("The GPU is cut into MIG slices and none is chosen: CUDA takes the first",
                observed=f"{len(slices)} slices", fix=f"export CUDA_VISIBLE_DEVICES={slices[0]}")  # fmt: skip


@check("gpu.mode", "May this process compute on the card?", ASKED)
def mode(host: Host) -> Finding:
    """Exclusive or prohibited compute mode."""
    found, reason = each(host)
    if reason:
        return reason
    for gpu in found:
        value, others = gpu.facts.get("compute_mode"), gpu.facts.get("processes") or []
        if value == 2 or (value in (1, 3) and others):
            word = "prohibited" if value == 2 else "exclusive, and another process holds it"
            return fail(
                f"GPU {gpu.index}: its compute mode is {word}",
                observed=f"compute mode {value}",
                expected="0 (default)",
                evidence=[("nvmlDeviceGetComputeMode", str(value))],
                why="CUDA answers: device(s) is/are busy or unavailable",
                fix=[Fix(f"sudo nvidia-smi -i {gpu.index} -c 0", "root", "host")],
            )
    return (
        ok("default")
        if any(g.facts.get("compute_mode") is not None for g in found)
        else unknown("not told")
    )


@check("gpu.ecc", "Is the memory of the card sound?", ASKED)
def ecc(host: Host) -> Finding:
    """Uncorrected errors since the last reset, rows and pages that wait to be replaced."""
    found, reason = each(host)
    if reason:
        return reason
    told = False
    for gpu in found:
        errors, rows = gpu.facts.get("ecc_uncorrected"), gpu.facts.get("remapped") or {}
        told = told or errors is not None or bool(rows)
        pending = rows.get("pending") or gpu.facts.get("retired_pending") == 1
        if errors or rows.get("failed") or pending:
            what = ("memory rows could not be replaced" if rows.get("failed") else
                    f"{errors} uncorrectable memory errors" if errors else "memory rows wait to be replaced")  # fmt: skip
            say = fail if errors or rows.get("failed") else warn
            return say(f"GPU {gpu.index}: {what}", observed=f"uncorrected {errors}, remapped {rows}", expected="0",
                       evidence=[("nvmlDeviceGetTotalEccErrors", str(errors))],
                       why="results may be wrong, and CUDA stops with an ECC error",
                       fix=[Fix(f"sudo nvidia-smi -i {gpu.index} --gpu-reset  # or reboot", "root", "host"),
                            Fix("if it returns: leave the card out (CUDA_VISIBLE_DEVICES) and have it replaced", "host", "host")])  # fmt: skip
    return ok("no errors") if told else skip("this card has no ECC memory, or it is off")


@check("gpu.memory", "Is the memory of the card free?", ASKED)
def memory(host: Host) -> Finding:
    """Others on the card."""
    found, reason = each(host)
    if reason:
        return reason
    for gpu in found:
        total, free = gpu.total, gpu.facts.get("free")
        if not total or free is None:
            continue
        others = gpu.facts.get("processes") or []
        used = total - free
        if used > max(0.15 * total, 1.5 * GIB):
            pids = ", ".join(
                f"pid {p['pid']}" + (f" ({p['used'] / GIB:.1f} GiB)" if p.get("used") else "")
                for p in others[:4]
            )
            return warn(
                f"GPU {gpu.index}: {used / GIB:.1f} of {total / GIB:.0f} GiB are in use already",
                observed=pids or "by a process that cannot be seen from here",
                evidence=[("nvmlDeviceGetMemoryInfo", f"free {free}")],
                fix=[
                    f"nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv -i {gpu.index}",
                    *(
                        [f"export CUDA_VISIBLE_DEVICES={best}"]
                        if (best := _freest(found, gpu)) is not None
                        else []
                    ),
                ],
            )
    return ok(", ".join(f"{(g.facts.get('free') or 0) / GIB:.1f} GiB free" for g in found))


def _freest(found: list[stack.Gpu], busy: stack.Gpu) -> int | None:
    others = [
        g
        for g in found
        if g.index != busy.index and (g.facts.get("free") or 0) > (busy.facts.get("free") or 0)
    ]
    return max(others, key=lambda g: g.facts.get("free") or 0).index if others else None


@check("gpu.throttle", "Does the card run at its own speed?", ASKED)
def throttle(host: Host) -> Finding:
    """Reasons for lower clocks other than idleness and the power cap."""
    found, reason = each(host)
    if reason:
        return reason
    for gpu in found:
        bits = gpu.facts.get("throttle") or 0
        why = [text for bit, text in THROTTLE.items() if bits & bit]
        if why:
            heat = gpu.facts.get("temperature")
            return warn(
                f"GPU {gpu.index} is slowed down: {why[-1]}",
                observed=f"{heat} °C, reasons {bits:#x}",
                expected="no reason but idleness",
                evidence=[("clocks_event_reasons", hex(bits))],
                blocks=("speed",),
                fix=Fix("check fans, air flow and the power supply", "host", "host"),
            )
    return ok("no reason for lower clocks")


@check("gpu.link", "Is the card in a slot of full width?", WORKS)
def link(host: Host) -> Finding:
    """PCIe lanes; the speed drops when idle, the width does not."""
    for card in stack.cards(host):
        have, most = card.get("current_link_width", ""), card.get("max_link_width", "")
        if have.isdigit() and most.isdigit() and 0 < int(have) < min(int(most), 8):
            return warn(
                f"The card at {card['slot']} has {have} of {most} PCIe lanes: loading and offloading are slow",
                observed=f"x{have}",
                expected=f"x{most}",
                evidence=[(f"/sys/bus/pci/devices/{card['slot']}/current_link_width", have)],
                blocks=("speed",),
                fix=Fix("reseat the card, or use another slot", "reboot", "host"),
            )
    return ok("full width") if stack.cards(host) else skip("no card on the bus to look at")


@check("gpu.precision", "Which number formats does the card compute in?", (*ASKED, "torch.arch"))
def precision(host: Host) -> Finding:
    """bf16 is emulated below 8.0, though torch says it is supported."""
    _, reason = each(host)
    if reason:
        return reason
    lowest = min(stack.capabilities(host), default=None)
    if lowest is None:
        return unknown("the compute capability is not known")
    names = [n for n in ("bf16", "tf32", "int8", "nf4") if lowest >= rules.capability(n)]
    lacking = [n for n in ("bf16", "tf32") if n not in names]
    return ok(
        "fp16, "
        + ", ".join(names)
        + (f"; no {' or '.join(lacking)}: fp16 with scaling is used" if lacking else "")
    )
