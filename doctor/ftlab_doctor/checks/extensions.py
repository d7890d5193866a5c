"""bitsandbytes, xformers, flash-attn and torchvision against torch and against each card."""

from __future__ import annotations

import re

from ftlab_doctor import rules, stack
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release, satisfies

ARCH = ("torch.installed", "torch.cuda", "torch.arch")


def _binary(host: Host) -> str | None:
    """The CUDA number of the library that bitsandbytes would take; None if there is none."""
    numbers = sorted(int(n) for n in host.build("bitsandbytes").get("binaries", {}))
    wanted = host.env("BNB_CUDA_VERSION") or "".join(map(str, release(stack.torch_cuda(host))[:2]))
    if not wanted.isdigit():
        return None
    if int(wanted) in numbers or host.env("BNB_CUDA_VERSION"):
        return wanted if int(wanted) in numbers else None
    if not satisfies(host.version("bitsandbytes") or "0", ">=0.46"):
        return None
    same = [n for n in numbers if n // 10 == int(wanted) // 10]
    lower = [n for n in same if n <= int(wanted)]
    chosen = max(lower) if lower else min(same) if same else None
    return str(chosen) if chosen else None


@check("bnb.override", "Is bitsandbytes left to choose its library?", ("torch.installed",))
def override(host: Host) -> Finding:
    """A stale BNB_CUDA_VERSION."""
    value = host.env("BNB_CUDA_VERSION")
    if not value:
        return ok("BNB_CUDA_VERSION is not set")
    cuda = "".join(map(str, release(stack.torch_cuda(host))[:2]))
    same = value == cuda
    numbers = host.build("bitsandbytes").get("binaries", {})
    say = fail if numbers and value not in numbers else warn
    return say(f"BNB_CUDA_VERSION={value} overrides the choice of bitsandbytes" + ("" if same or not cuda else f"; torch has CUDA {stack.torch_cuda(host)}"),
               observed=value, expected="not set", evidence=[("BNB_CUDA_VERSION", value)], blocks=("nf4", "int8", "adam8bit"),
               fix="unset BNB_CUDA_VERSION")  # fmt: skip


@check(
    "bnb.binary",
    "Has bitsandbytes a library for the CUDA of torch?",
    ("torch.installed", "torch.cuda", "bnb.override", "env.damaged"),
)
def binary(host: Host) -> Finding:
    """By the files in the wheel; since 0.46 the nearest one is taken."""
    if not host.package("bitsandbytes"):
        return skip("bitsandbytes is not installed")
    if not stack.torch_cuda(host):
        return skip("torch was built without CUDA")
    numbers = host.build("bitsandbytes").get("binaries")
    if numbers is None:
        return unknown("its files were not listed")
    chosen = _binary(host)
    if chosen:
        return ok(f"cuda{chosen}")
    tag = "".join(map(str, release(stack.torch_cuda(host))[:2]))
    return fail(f"bitsandbytes {host.version('bitsandbytes')} has no library for CUDA {stack.torch_cuda(host)}",
                observed=", ".join(f"cuda{n}" for n in numbers) or "none", expected=f"libbitsandbytes_cuda{tag}.so",
                blocks=("nf4", "int8", "adam8bit"), evidence=[("bitsandbytes/", ", ".join(numbers) or "no CUDA library")],
                fix="pip install -U bitsandbytes")  # fmt: skip


@check("bnb.arch", "Has bitsandbytes code for every card?", (*ARCH, "bnb.binary", "bnb.override"))
def bnb_arch(host: Host) -> Finding:
    """The code inside the library that it would take."""
    chosen, capabilities = _binary(host), stack.capabilities(host)
    if not host.package("bitsandbytes") or not chosen or not capabilities:
        return skip("no library or no card to compare")
    built = host.build("bitsandbytes")["binaries"].get(chosen) or []
    if not built:
        return unknown("the library does not say")
    for cc in capabilities:
        if not stack.runs_on(built, cc):
            return fail(
                f"The CUDA {int(chosen) / 10:.1f} library of bitsandbytes has no code for sm_{cc[0]}{cc[1]}",
                observed=" ".join(built),
                expected=f"sm_{cc[0]}{cc[1]}",
                blocks=("nf4", "int8", "adam8bit"),
                evidence=[(f"libbitsandbytes_cuda{chosen}.so", " ".join(built))],
                fix=stack.install_torch(host, cc) if cc < (7, 5) else "pip install -U bitsandbytes",
            )
    return ok(" ".join(built))


@check(
    "xformers.build",
    "Was xformers built for this torch?",
    ("torch.installed", "conflict.xformers-old", "env.mixed"),
)
def xformers(host: Host) -> Finding:
    """cpp_lib.json. Up to 0.0.33 the torch must be the very one, from 0.0.34 any from 2.10 on."""
    version = host.version("xformers")
    if not version:
        return skip("xformers is not installed")
    built, torch = host.build("xformers").get("torch"), stack.torch_version(host)
    if host.build("xformers").get("broken"):
        return warn(
            "xformers' cpp_lib.json is damaged",
            blocks=("xformers",),
            fix=f"pip install --force-reinstall --no-deps xformers=={version}",
        )
    if not built or not torch:
        return unknown("what it was built for is not known")
    stable = satisfies(version, ">=0.0.34") and satisfies(torch.split("+")[0], ">=2.10")
    same = built.split("+")[0] == torch.split("+")[0] and ("+" not in torch or built == torch)
    theirs = release(str(host.build("xformers").get("cuda") or 0))[0] // 100
    ours = release(stack.torch_cuda(host))[:1]
    if (stable or same) and (not ours or not theirs or theirs == ours[0]):
        return ok(f"torch {built}")
    return warn(f"xformers {version} was built for torch {built}, and this is {torch}: its kernels do not load", observed=torch, expected=built,
                evidence=[("xformers/cpp_lib.json", f"torch {built}")], blocks=("xformers",),
                fix=f"pip install --no-deps 'xformers{_matching(torch)}'  # torch stays as it is")  # fmt: skip


def _matching(torch: str) -> str:
    known = {"2.4.0": "==0.0.27.post2", "2.4.1": "==0.0.28.post1", "2.5.1": "==0.0.28.post3", "2.6.0": "==0.0.29.post3",
             "2.7.0": "==0.0.30", "2.7.1": "==0.0.31.post1", "2.8.0": "==0.0.32.post2", "2.9.1": "==0.0.33.post2"}  # fmt: skip
    base = torch.split("+")[0]
    return known.get(base, ">=0.0.34" if satisfies(base, ">=2.10") else "")


@check(
    "xformers.arch",
    "Has xformers code for every card?",
    (*ARCH, "xformers.build", "conflict.xformers-old"),
)
def xformers_arch(host: Host) -> Finding:
    """The code inside; PTX of an older architecture can be compiled at load, so only --deep is sure."""
    built, capabilities = host.build("xformers").get("arch"), stack.capabilities(host)
    if not host.package("xformers") or not capabilities:
        return skip("no xformers or no card")
    if not built:
        return unknown("its binary does not say")
    plain = [a for a in built if a != "sm_90"] + (["sm_90"] if (9, 0) in capabilities else [])
    for cc in capabilities:
        if not stack.runs_on(plain, cc):
            return warn(
                f"xformers has no kernels for sm_{cc[0]}{cc[1]}; attention falls back to torch's own",
                observed=" ".join(built),
                expected=f"sm_{cc[0]}{cc[1]}",
                blocks=("xformers",),
                evidence=[("xformers/_C.so", " ".join(built))],
                fix="pip uninstall -y xformers  # nothing of ours needs it",
            )
    return ok(" ".join(built))


@check("flash.card", "Can flash-attn run on every card?", (*ARCH, "lib.symbols"))
def flash(host: Host) -> Finding:
    """Compute capability 8.0, and code for it inside."""
    capabilities = stack.capabilities(host)
    if not host.package("flash-attn") or not capabilities:
        return skip("flash-attn is not installed" if capabilities else "no GPU to compare with")
    low = next((cc for cc in capabilities if cc < rules.capability("flash-attn")), None)
    built = host.build("flash-attn").get("arch") or []
    bad = low or next((cc for cc in capabilities if built and not stack.runs_on(built, cc)), None)
    if bad is None:
        return ok(" ".join(built) or "8.0 or newer")
    why = (
        "FlashAttention needs an Ampere card or newer"
        if low
        else "this build has no code for the card"
    )
    return fail(f"flash-attn cannot run on sm_{bad[0]}{bad[1]}: {why}", observed=f"{bad[0]}.{bad[1]}", expected=">= 8.0", blocks=("flash",),
                evidence=[("flash_attn_2_cuda", " ".join(built) or "8.0 and newer")], fix="pip uninstall -y flash-attn  # attention: sdpa is used instead")  # fmt: skip


@check("flash.build", "Was flash-attn built for this torch?", ("torch.installed", "lib.symbols"))
def flash_build(host: Host) -> Finding:
    """Its wheels carry "+cu12torch2.4cxx11abiFALSE" in their version."""
    version = host.version("flash-attn")
    if not version:
        return skip("flash-attn is not installed")
    match = re.search(r"torch(\d+\.\d+)", version)
    if not match:
        return ok(version)
    if stack.torch_version(host).startswith(match[1] + "."):
        return ok(version)
    return fail(f"flash-attn was built for torch {match[1]}, and this is {stack.torch_version(host)}", observed=version, expected=stack.torch_version(host),
                blocks=("flash",), fix="pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps flash-attn")  # fmt: skip
