"""The pip commands of fixes, as the environment that was looked at takes them."""

from __future__ import annotations

import re

from ftlab_doctor.finding import Fix
from ftlab_doctor.host import Host

PIP = re.compile(r"(^|&& |; )pip (install|uninstall|download)\b")


def pip(host: Host) -> str:
    """What stands for `pip`: itself if it belongs to this Python, else what does."""
    prefix = str(host.python.get("prefix", ""))
    executable = str(host.python.get("executable", ""))
    found = host.python.get("pip")
    if not prefix or not executable:
        return "pip"
    if isinstance(found, dict) and any(
        str(found.get(name, "")).startswith(prefix + "/") for name in ("path", "interpreter")
    ):
        return "pip"
    if prefix == host.python.get("base_prefix") and not host.python.get("conda"):
        return "pip" if isinstance(found, dict) else f"{executable} -m pip"
    if host.package("pip"):
        return f"{executable} -m pip"
    made_by_uv = re.search(r"^uv = ", str(host.python.get("venv") or ""), re.MULTILINE)
    if made_by_uv or host.which("uv"):  # uv puts no pip into its environments
        return f"uv pip --python {executable}"
    return f"pip --python {executable}" if isinstance(found, dict) else f"{executable} -m pip"


def adapt(host: Host, fix: Fix) -> Fix:
    """The same fix, whose pip installs into the environment that was looked at."""
    if "pip " not in fix.cmd:
        return fix
    mine = pip(host)
    if mine == "pip":
        return fix
    if not mine.startswith("uv "):
        return fix._replace(cmd=PIP.sub(rf"\g<1>{mine} \g<2>", fix.cmd))
    where = mine.removeprefix("uv pip ")
    changed = PIP.sub(rf"\g<1>uv pip \g<2> {where}", fix.cmd)
    return fix._replace(cmd=changed.replace(" -y ", " ").replace("--no-cache-dir", "--no-cache"))


def example(host: Host) -> str:
    """How something is installed into that environment, for people."""
    return adapt(host, Fix("pip install ...")).cmd
