"""The NVIDIA driver's libraries: found by the loader, of one version, started, new enough for torch."""

from __future__ import annotations

from ftlab_doctor import loader, rules, stack
from ftlab_doctor.checks.driver import LOADED, WORKS, reinstall
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

STUB = 34  # CUDA_ERROR_STUB_LIBRARY
RELOAD = "sudo sh -c 'modprobe -r nvidia_uvm; modprobe nvidia_uvm' || sudo reboot"
UPDATE, RESTART = (
    "update the NVIDIA driver in Windows, then wsl --shutdown",
    "wsl --update; wsl --shutdown",
)
# What cuInit returns: the cause, and what mends it.
CAUSES = {
    2: ("no memory is left on the card", "end the processes that hold it"),
    3: ("the driver did not come up", "sudo nvidia-modprobe -c 0 -u || sudo reboot"),
    46: ("the device is busy or unavailable", "sudo nvidia-smi -c 0"),
    100: ("no device is visible", "unset CUDA_VISIBLE_DEVICES"),
    101: ("CUDA_VISIBLE_DEVICES names no device", "unset CUDA_VISIBLE_DEVICES"),
    304: ("the operating system refused a call (a device node or a limit)", "sudo nvidia-modprobe -c 0 -u"),
    500: ("libcuda lacks a function: it is not of this driver", "sudo reboot"),
    800: ("the driver refuses this process: its control group, or its user, may not use the card", "create the container anew"),
    802: ("the fabric manager is not ready", "sudo systemctl start nvidia-fabricmanager"),
    803: ("driver and libcuda do not fit together", "sudo reboot"),
    804: ("forward compatibility is not possible on this card", "unset LD_LIBRARY_PATH"),
    999: ("the driver lost its state, as after a suspend of the machine", RELOAD),
}  # fmt: skip
WINDOWS = {
    100: ("Windows lends WSL no GPU that CUDA can use", UPDATE),
    500: ("the libcuda that Windows gave is older or newer than its driver", UPDATE),
    999: ("the driver of Windows lost its state", RESTART),
}


@check(
    "driver.library",
    "Does the loader find the driver's libraries?",
    (*LOADED, "container.gpu", "container.capabilities"),
)
def library(host: Host) -> Finding:
    """libcuda.so.1 and libnvidia-ml.so.1, by really loading them."""
    if not stack.expected(host):
        return skip("no NVIDIA GPU")
    for name, section in (("libcuda.so.1", "cuda"), ("libnvidia-ml.so.1", "nvml")):
        facts = host.section(section)
        if "died" in facts:
            return fail(
                f"Loading {name} ends the process",
                observed=str(facts.get("error") or facts["died"]),
                why="the library is damaged or belongs to another driver",
                fix=reinstall(host),
            )
        if facts.get("missing"):
            lies = _elsewhere(host, name)
            return fail(
                f"The loader cannot find {name}" + (f", which lies in {lies}" if lies else ""),
                observed=facts["missing"], evidence=[(f"dlopen {name}", facts["missing"]), *([(lies, name)] if lies else [])],
                why=f"{lies} is on no path of the loader" if lies else
                "the driver's user-space part is not installed or not in the loader's cache",
                fix=Fix(f"export LD_LIBRARY_PATH={lies}:$LD_LIBRARY_PATH") if lies else
                [Fix("sudo ldconfig", "root"), reinstall(host)],
            )  # fmt: skip
    if not host.has("cuda"):
        return unknown("nobody tried to load it")
    return ok(str(host.section("cuda").get("path", "")))


def _elsewhere(host: Host, name: str) -> str:
    """A folder that holds the library and that the loader does not look into; no stub counts."""
    known = {*loader.search_path(host), *loader.DEFAULT}
    folders = host.section("libraries").get("dirs") or {}
    return next(
        (f for f in folders if name in folders[f] and f not in known and "stubs" not in f and "compat" not in f), ""
    )  # fmt: skip


@check(
    "driver.compat", "Is the libcuda that loads the one of the driver?", (*WORKS, "driver.library")
)
def compat(host: Host) -> Finding:
    """A second libcuda (CUDA's compat folder, conda's cuda-compat) may be found first."""
    module = stack.kernel_module(host)
    cuda = host.section("cuda")
    real = str(cuda.get("path") or loader.find(host, "libcuda.so.1").real)
    version = loader.version_in(real)
    if "/stubs/" in real or cuda.get("init") == STUB:
        return fail(
            "The libcuda that loads is a stub for linking: it has no driver behind it", observed=real,
            expected=f"libcuda.so.{module or '<driver>'}", evidence=[("libcuda.so.1", real), ("cuInit", str(cuda.get("init")))],
            why="a `stubs` folder is meant for the compiler's -L, not for the loader", fix=_without(host, real),
        )  # fmt: skip
    if host.wsl or not module or release(version) in ((), (1,)) or len(release(version)) < 2:
        return skip("nothing to compare")
    wrong = cuda.get("init") in (803, 804)
    if release(version) == release(module) and not wrong:
        return ok(version)
    compat_package = "compat" in real
    if compat_package and not wrong and cuda.get("init") == 0:
        return ok(f"{version} by CUDA's forward compatibility")
    return fail(
        f"A libcuda of another driver is found first: {version}, while the module is {module}",
        observed=real, expected=f"libcuda.so.{module}", evidence=[("libcuda.so.1", real), ("module", module)],
        why="cuInit answers 803: unsupported display driver / cuda driver combination" if wrong else "",
        fix=_without(host, real),
    )  # fmt: skip


def _without(host: Host, real: str) -> list[Fix]:
    folder = real.rsplit("/", 1)[0]
    if folder in loader.search_path(host):
        return [
            Fix(
                f"export LD_LIBRARY_PATH=$(echo $LD_LIBRARY_PATH | tr : '\\n' | grep -vx {folder} | paste -sd:)"
            )
        ]
    if "compat" in real:
        return [
            Fix(
                "sudo apt remove 'cuda-compat-*' && sudo ldconfig  # or: conda remove cuda-compat",
                "root",
            )
        ]
    return [
        Fix(f"sudo rm {real} && sudo ldconfig", "root"),
        Fix("sudo reboot  # if the driver was just upgraded", "reboot", "host"),
    ]


@check("driver.nvml", "Does the driver's management library start?", (*WORKS, "driver.library"))
def nvml(host: Host) -> Finding:
    """Its return code, turned into a cause."""
    facts = host.section("nvml")
    if not stack.expected(host) or "rc" not in facts:
        return skip("no NVIDIA GPU") if not stack.expected(host) else unknown("NVML was not asked")
    rc = facts["rc"]
    if rc == 0:
        return ok(str(facts.get("driver", "")))
    said = str(facts.get("error", f"error {rc}"))
    if rc == 999 and host.in_container:
        return fail(
            "The container lost its GPU: NVML says Unknown Error", observed=said, evidence=[("nvmlInit", said)],
            why="`systemctl daemon-reload` on the host took the devices out of the control group",
            fix=[Fix("create the container anew", "none", "host"),
                 Fix("sudo nvidia-ctk system create-dev-char-symlinks --create-all  # so that it stays", "root", "host")],
        )  # fmt: skip
    if rc in (4, 17):
        return fail(
            f"The driver refuses this process: {said}", observed=said, evidence=[("nvmlInit", f"{rc}: {said}")],
            why="the device nodes belong to another group, or no-cgroups is set for a Docker with root",
            fix=Fix("sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place && sudo systemctl restart docker", "root", "host")
            if host.in_container or host.wsl else Fix("sudo usermod -aG video,render $USER  # then log in again", "root", "host"),
        )  # fmt: skip
    return fail(f"NVML does not start: {said}", observed=said, evidence=[("nvmlInit", f"{rc}: {said}")],
                fix=[Fix("sudo reboot", "reboot", "host"), reinstall(host)])  # fmt: skip


@check(
    "driver.start",
    "Does CUDA start?",
    (
        *WORKS,
        "driver.library",
        "driver.compat",
        "driver.nvml",
        "gpu.fabric",
        "gpu.visible",
        "gpu.lost",
        "gpu.mode",
    ),
)
def start(host: Host) -> Finding:
    """cuInit, and its return code turned into a cause."""
    facts = host.section("cuda")
    if not stack.expected(host) or "init" not in facts:
        return (
            skip("no NVIDIA GPU") if not stack.expected(host) else unknown("cuInit was not called")
        )
    rc, causes = facts["init"], CAUSES | (WINDOWS if host.wsl else {})
    if rc == 0:
        return ok(f"{len(facts.get('devices') or [])} devices")
    cause, fix = causes.get(
        rc, ("a reason that this doctor does not know", UPDATE if host.wsl else "sudo reboot")
    )
    where = "windows" if host.wsl and fix in (UPDATE, RESTART) else ""
    needs = "root" if "sudo" in fix or where else "none"
    return fail(f"CUDA does not start (error {rc}): {cause}", observed=f"cuInit = {rc}", expected="0",
                evidence=[("cuInit", str(rc))], fix=Fix(fix, needs, where))  # fmt: skip


@check(
    "driver.cuda",
    "Is the driver new enough for the CUDA of torch?",
    (*WORKS, "driver.library", "driver.compat"),
)
def floor(host: Host) -> Finding:
    """By minor version compatibility, the major version counts."""
    wanted, have = stack.torch_cuda(host), stack.driver_cuda(host)
    version = stack.driver(host)
    if not wanted or not stack.expected(host):
        return skip("torch was built without CUDA" if not wanted else "no NVIDIA GPU")
    needed = rules.driver_floor(wanted)
    if needed is None:
        return unknown(f"no rule knows which driver CUDA {wanted} needs")
    if have is None and not version:
        return unknown("the driver's version is not known")
    by_version = bool(version) and not host.wsl and release(version) < release(needed)
    if not (by_version or (have is not None and have[0] < release(wanted)[0])):
        return ok(f"driver {version} for CUDA {wanted}")
    older = f"cu{have[0]}" if have else "an older CUDA"
    update = (
        Fix("update the NVIDIA driver in Windows", "root", "windows")
        if host.wsl
        else Fix(
            f"sudo apt install nvidia-driver-{max(int(needed), 580)} && sudo reboot",
            "reboot",
            "host",
        )
    )
    fixes = [update]
    if have and have >= (12, 0):
        tag = "cu126" if min(stack.capabilities(host), default=(8, 0)) < (10, 0) else "cu128"
        fixes.append(
            Fix(f"pip install --force-reinstall torch -i https://download.pytorch.org/whl/{tag}")
        )
    return fail(
        f"The driver is too old for torch: CUDA {wanted} needs driver {needed} or newer",
        observed=f"driver {version or '?'}" + (f" (CUDA {have[0]}.{have[1]})" if have else ""),
        expected=f">= {needed}, or a torch built with {older}",
        evidence=[("torch/version.py", f"cuda = {wanted}"), ("cuDriverGetVersion", str(host.section("cuda").get("version")))],
        fix=fixes,
    )  # fmt: skip
