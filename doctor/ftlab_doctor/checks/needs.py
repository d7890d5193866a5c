"""What compiled extensions need beside torch, and which cards torch's own libraries still serve."""

from __future__ import annotations

import re

from ftlab_doctor import loader, rules, stack
from ftlab_doctor.checks.driver import USABLE
from ftlab_doctor.checks.libraries import CUDA, owner, untraceable
from ftlab_doctor.finding import Finding, fail, ok, skip, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

TORCH = re.compile(r"lib(c10|torch)\w*\.so")
EXTENSION = re.compile(
    r"(xformers|torchvision|torchaudio|flash_attn\w*|causal_conv1d\w*|selective_scan\w*|deepspeed|apex_C|vllm|torchao)\b"
)


@check(
    "lib.needs",
    "Would the loader find what the compiled extensions need?",
    ("lib.missing", "torch.installed"),
)
def needs(host: Host) -> Finding:
    """CUDA's and torch's libraries that an extension names, once torch itself has been loaded."""
    loaded = loader.torch_loads(host)
    if gap := untraceable(host, loaded):
        return gap
    extensions = [
        path for path in host.section("elf") if EXTENSION.search(path.removeprefix(host.site + "/"))
    ]
    for path in extensions:
        wanted = [
            n
            for n in host.section("elf")[path].get("needed", [])
            if n not in loaded and (CUDA.match(n) or TORCH.match(n))
        ]
        lost = [name for name in wanted if not loader.find(host, name, path).path]
        if lost:
            return _unmet(host, path, lost[0])
    return ok(f"{len(extensions)} extension{'s' if len(extensions) != 1 else ''}")


def _unmet(host: Host, path: str, library: str) -> Finding:
    name = owner(host, path).split("==")[0]
    optional = name not in ("torchvision", "torchaudio")
    major = re.search(r"\.so\.(\d+)", library)
    cuda = stack.torch_cuda(host)
    other = bool(
        major
        and library.startswith(("libcudart", "libcublas", "libnvrtc"))
        and cuda
        and major[1] != cuda.split(".")[0]
    )
    title = (
        f"{name} was built for CUDA {major[1]}, and torch for CUDA {cuda}"
        if other and major
        else f"{name} needs {library}, which the loader does not find"
    )
    again = (
        f"pip install --force-reinstall --no-deps {name} -i https://download.pytorch.org/whl/{stack.wheel_tag(cuda)}"
        if cuda
        else f"pip install --force-reinstall --no-deps {name}"
    )
    say = warn if name in ("vllm", "torchao", "deepspeed") else fail
    return say(title, observed=f"{library} is nowhere", expected=f"a {name} made for this torch", evidence=[(path, f"NEEDED {library}")],
                blocks=("flash",) if name.startswith("flash") else ("xformers",) if name == "xformers" else ("train",),
                fix=f"pip uninstall -y {name}  # nothing of ours needs it" if optional else again)  # fmt: skip


@check("lib.drops", "Do torch's libraries still have code for every card?", ("torch.arch", *USABLE))
def drops(host: Host) -> Finding:
    """A library may drop old cards earlier than the torch it was upgraded under."""
    lowest = min(stack.capabilities(host), default=None)
    if lowest is None:
        return skip("no GPU to compare with")
    for rule in rules.tables()["library_drops"]:
        version = host.version(rule["package"])
        if version and release(version) >= release(rule["from"]) and lowest < tuple(rule["least"]):
            return fail(f"{rule['package']} {version} has no code for sm_{lowest[0]}{lowest[1]}: it left with {rule['from']}", observed=version, expected=f"< {rule['from']}",
                        evidence=[(rule["package"], version), ("rule", rule["source"])], fix=f"pip install '{rule['package']}<{rule['from']}'")  # fmt: skip
    return ok(f"sm_{lowest[0]}{lowest[1]}")
