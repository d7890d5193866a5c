"""Windows Subsystem for Linux: its version, the driver that Windows lends, its memory."""

from __future__ import annotations

from ftlab_doctor import loader, stack
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

FOLDER = "/usr/lib/wsl/lib"
GIB = 1 << 30


@check("wsl.version", "Is this WSL 2?")
def version(host: Host) -> Finding:
    """WSL 1 has no GPU at all."""
    if not host.wsl:
        return skip("not WSL")
    if host.wsl == 2:
        return ok("WSL 2")
    return fail("This is WSL 1, which has no GPU", observed=host.kernel, expected="WSL 2",
                evidence=[("uname -r", host.kernel)],
                fix=[Fix("wsl --set-version <distro> 2", "none", "windows"), Fix("wsl --update", "none", "windows")])  # fmt: skip


@check("wsl.adapter", "Does Windows lend its GPU to WSL?", ["wsl.version"])
def adapter(host: Host) -> Finding:
    """/dev/dxg is the GPU, libcuda.so.1 comes from the Windows driver."""
    if not host.wsl:
        return skip("not WSL")
    device, library = host.exists("/dev/dxg"), host.exists(f"{FOLDER}/libcuda.so.1")
    if device and library:
        return ok("/dev/dxg and the driver of Windows are there")
    if device is None:
        return unknown("nobody looked for /dev/dxg")
    if host.in_container:
        return fail(
            "The container was started without the GPU of Windows",
            evidence=[("/dev/dxg", str(bool(device)))],
            fix=Fix("docker run --gpus all ...", "none", "host"),
        )
    lacking = "/dev/dxg" if not device else f"{FOLDER}/libcuda.so.1"
    return fail(
        "WSL sees no GPU" if not device else "Windows has no NVIDIA driver for WSL",
        observed=f"{lacking} is missing", evidence=[(lacking, "missing")],
        why="no NVIDIA card, an old Windows driver, or an old WSL kernel",
        fix=[Fix("install the current NVIDIA driver in Windows (nothing in Linux)", "root", "windows"),
             Fix("wsl --update && wsl --shutdown", "none", "windows")],
    )  # fmt: skip


@check("wsl.linux-driver", "Is there no Linux driver in the way?", ["wsl.version", "wsl.adapter"])
def linux_driver(host: Host) -> Finding:
    """A libcuda from a Linux package hides the one of Windows."""
    if not host.wsl or host.in_container:
        return skip("not WSL")
    found = loader.find(host, "libcuda.so.1")
    if not found.path or found.path.startswith("/usr/lib/wsl/"):
        return ok("no other libcuda")
    return fail("A Linux NVIDIA driver inside WSL hides the driver of Windows", observed=found.real,
                expected=f"{FOLDER}/libcuda.so.1", evidence=[("libcuda.so.1", found.real)],
                fix=[Fix("sudo apt purge 'libnvidia-compute-*' 'nvidia-driver-*' 'libcuda1' && sudo ldconfig", "root")])  # fmt: skip


@check(
    "wsl.loader", "Does the loader find the driver of Windows?", ["wsl.adapter", "wsl.linux-driver"]
)
def on_path(host: Host) -> Finding:
    """libcuda lies in a folder of its own."""
    if not host.wsl:
        return skip("not WSL")
    if host.section("cuda").get("path") or loader.find(host, "libcuda.so.1").path:
        return ok(FOLDER)
    return fail(
        f"The loader does not look into {FOLDER}, where the driver is",
        observed="libcuda.so.1 is not found", expected=f"{FOLDER} in the loader's cache",
        evidence=[("dlopen libcuda.so.1", host.section("cuda").get("missing", "not found"))],
        fix=[Fix(f"echo {FOLDER} | sudo tee /etc/ld.so.conf.d/wsl.conf && sudo ldconfig", "root"),
             Fix(f"export LD_LIBRARY_PATH={FOLDER}:$LD_LIBRARY_PATH")],
    )  # fmt: skip


@check("wsl.memory", "Does WSL get enough of the memory?", ["wsl.version"])
def memory(host: Host) -> Finding:
    """By default it gets half."""
    facts = host.system.get("memory") or {}
    if not host.wsl:
        return skip("not WSL")
    room = facts.get("MemTotal", 0) + facts.get("SwapTotal", 0)
    if not room:
        return unknown("the size of memory is not known")
    if room >= 12 * GIB:
        return ok(f"{room / GIB:.0f} GiB with swap")
    return warn(
        f"WSL gets only {room / GIB:.0f} GiB with swap: loading a 7B model ends in `Killed`",
        observed=f"{room / GIB:.1f} GiB", expected=">= 12 GiB", why="WSL takes half of Windows' memory unless told",
        evidence=[("/proc/meminfo", f"MemTotal + SwapTotal = {room}")],
        fix=[Fix("write [wsl2] memory=24GB swap=32GB into %UserProfile%\\.wslconfig", "none", "windows"),
             Fix("wsl --shutdown", "none", "windows")],
    )  # fmt: skip


@check("wsl.config", "Does Windows read .wslconfig?", ["wsl.version"])
def config(host: Host) -> Finding:
    """A file in UTF-16 or with a byte order mark is ignored without a word."""
    if not host.wsl:
        return skip("not WSL")
    paths = [path for path in host.section("files") if path.endswith(".wslconfig")]
    if not paths:
        return skip("no .wslconfig")
    for path in paths:
        marks, content = host.listing(path) or [], host.text(path) or ""
        utf16, bom = "utf-16" in marks, content.startswith("\ufeff")
        if utf16 or bom or not content.lstrip("\ufeff").lower().lstrip().startswith(("[", "#")):
            return warn(
                "Windows ignores .wslconfig as it is written",
                observed="UTF-16" if utf16 else "no section",
                expected="UTF-8 without a mark, beginning with [wsl2]",
                evidence=[(path, content[:80])],
                why="PowerShell's `echo >` writes UTF-16",
                fix=Fix(
                    "save .wslconfig as UTF-8 in Notepad, then wsl --shutdown", "none", "windows"
                ),
            )
    return ok(paths[0])


@check("wsl.links", "Are the driver's libraries links, as ldconfig wants them?", ["wsl.adapter"])
def links(host: Host) -> Finding:
    """Windows ships copies; ldconfig complains and all works."""
    if not host.wsl:
        return skip("not WSL")
    answer = host.command("ldconfig")
    if answer and "is not a symbolic link" in answer.text:
        return warn("ldconfig complains of libcuda.so.1 in WSL; this is harmless", blocks=(),
                    evidence=[("ldconfig", "libcuda.so.1 is not a symbolic link")],
                    fix=Fix("cd C:\\Windows\\System32\\lxss\\lib && del libcuda.so libcuda.so.1 && "
                            "mklink libcuda.so.1 libcuda.so.1.1 && mklink libcuda.so libcuda.so.1", "root", "windows"))  # fmt: skip
    return ok(f"{stack.driver(host) or 'ldconfig is content'}")
