"""The driver and the cards of this machine: whether it knows them, and what it said of them."""

from __future__ import annotations

import re

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.driver import WORKS, reinstall
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release


@check(
    "driver.branch", "Does this driver still support the card?", ("wsl.version", "driver.nouveau")
)
def branch(host: Host) -> Finding:
    """Branches drop old families, and do not know those that came after them."""
    version = stack.driver(host) or _installed(host)
    if not version or not stack.families(host):
        return skip("no driver or no card to compare")
    for rule in rules.tables()["driver_since"]:
        newer = [name for name, cc in stack.families(host) if cc >= tuple(rule["cc"])]
        if newer and release(version) < release(rule["driver"]) and not stack.gpus(host):
            return _unknown_card(host, version, newer[0], rule)
    for rule in rules.tables()["driver_drops"]:
        dropped = [name for name, cc in stack.families(host) if cc < tuple(rule["below"])]
        if release(version) >= release(rule["from"]) and dropped:
            return fail(
                f"Driver {version} no longer supports {dropped[0]} cards",
                observed=version,
                expected=f"the {rule['last']} branch",
                evidence=[("driver", version)],
                url=rule["source"],
                fix=Fix(
                    f"sudo apt install nvidia-driver-{rule['last']} && sudo apt-mark hold "
                    f"nvidia-driver-{rule['last']} && sudo reboot",
                    "reboot",
                    "host",
                ),
            )
    return ok(version)


def _unknown_card(host: Host, version: str, family: str, rule: rules.Rule) -> Finding:
    log = host.command("dmesg")
    words = re.search(
        r"^.*(?:NVRM|nvidia).*not supported by.*$", log.out if log else "", re.MULTILINE
    )
    return fail(
        f"Driver {version} is older than this {family} card: the first that knows it is {rule['driver']}",
        observed=version, expected=f">= {rule['driver']}", url=rule["source"],
        evidence=[("driver", version), *([("dmesg", words[0].strip())] if words else [])],
        fix=Fix(f"sudo apt install nvidia-driver-{max(580, int(rule['driver']))}-open && sudo reboot", "reboot", "host"),
    )  # fmt: skip


@check(
    "driver.open-module",
    "Has the card the kind of module it needs?",
    ("wsl.version", "driver.nouveau", "driver.branch"),
)
def open_module(host: Host) -> Finding:
    """Blackwell works with the open kernel modules only."""
    words = host.text("/proc/driver/nvidia/version")
    newest = max((cc for _, cc in stack.families(host)), default=(0, 0))
    rule = rules.tables()["open_module_needed"][0]
    oldest, least = (
        min((cc for _, cc in stack.families(host)), default=(99, 0)),
        tuple(rules.tables()["open_module_needed"][1]["cc"]),
    )
    if words and "Open Kernel Module" in words and oldest < least:
        return fail(
            f"NVIDIA's open kernel module is loaded, and it does not serve a card older than Turing (sm_{oldest[0]}{oldest[1]})",
            observed=words.splitlines()[0][:80], expected="the closed module", evidence=[("/proc/driver/nvidia/version", words[:80])],
            fix=Fix(f"sudo apt install nvidia-driver-{release(stack.driver(host))[:1][0]} && sudo reboot", "reboot", "host"),
        )  # fmt: skip
    if not words or newest < tuple(rule["cc"]):
        return (
            ok("it serves this card")
            if words and stack.families(host)
            else skip("only Blackwell and later ask for it")
        )
    if "Open Kernel Module" in words:
        return ok("open kernel module")
    log = host.command("dmesg")
    lines = [
        line
        for line in (log.out if log else "").splitlines()
        if "RmInitAdapter" in line or "open" in line
    ]
    return fail(
        "This card needs NVIDIA's open kernel module; the closed one is loaded", observed=words.splitlines()[0][:80],
        expected="NVIDIA UNIX Open Kernel Module", evidence=[("/proc/driver/nvidia/version", words[:80]),
                                                              *[("dmesg", line) for line in lines[-1:]]],
        fix=[Fix(f"sudo apt install nvidia-driver-{release(stack.driver(host))[:1][0]}-open && sudo reboot",
                 "reboot", "host"),
             Fix("enable Above 4G Decoding and Resizable BAR in the firmware", "reboot", "host")],
        url=rule["source"],
    )  # fmt: skip


# What the driver says of a card that it could not start: pattern, what it means, what helps.
SAID = (
    (r"BAR\d is 0M|I/O region assigned to your NVIDIA device is invalid",
     "The firmware left the card without the addresses it needs", "64-bit addresses are off in the firmware, or too many cards share too few",
     "enable Above 4G Decoding in the firmware, or boot with pci=realloc"),
    (r"necessary power cables|power cables? (?:is|are) not",
     "The card gets too little power to start", "a power cable of the card is not connected", "connect the card's power cables"),
    (r"is not supported by the NVIDIA|supported through the NVIDIA [\d.x]+ Legacy",
     "The driver says that it does not support this card", "the driver is too old, or too new, for the card", ""),
    (r"RmInitAdapter failed",
     "The driver could not start the card (RmInitAdapter failed)", "firmware settings, power, or a driver that does not know the card",
     "enable Above 4G Decoding and Resizable BAR in the firmware"),
)  # fmt: skip


@check("driver.note", "Was the driver seen to complain?", WORKS)
def note(host: Host) -> Finding:
    """Its lines in the kernel's log about a card that did not start."""
    log = host.command("dmesg")
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    if log is None or log.rc != 0:
        return unknown("the kernel's log cannot be read without root")
    for pattern, title, why, help_ in SAID:
        lines = [line.strip() for line in log.out.splitlines() if re.search(pattern, line)]
        if not lines:
            continue
        seen = [("dmesg", lines[-1])]
        if stack.gpus(host):
            reboot = Fix("sudo reboot", "reboot", "host")
            return warn("A card failed to start once", evidence=seen, why=why, fix=reboot)
        fixes = [Fix(help_, "reboot", "host")] if help_ else []
        return fail(title, evidence=seen, why=why, fix=[*fixes, reinstall(host)])
    return ok("no card failed to start")


def _installed(host: Host) -> str:
    answer = host.command("modinfo version")
    return answer.out.strip() if answer and answer.rc == 0 else ""
