"""torch itself: installed, built for CUDA, with code for each card."""

from __future__ import annotations

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.driver import WORKS
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check


@check("torch.installed", "Is torch installed where this Python looks?")
def installed(host: Host) -> Finding:
    """By its metadata, and by its files."""
    if not host.has("packages"):
        return unknown("the snapshot lists no packages")
    package = host.package("torch")
    conda = [p for p in host.facts.get("conda") or [] if p["name"] in ("pytorch", "libtorch")]
    if package and not package.get("inactive"):
        return ok(f"torch {stack.torch_version(host)}")
    if host.build("torch") or conda:
        return ok(f"torch {stack.torch_version(host) or conda[0]['version']}")
    pip = host.python.get("pip") or {}
    return fail("torch is not installed in this Python", observed=str(host.python.get("executable", "?")), expected="torch",
                evidence=[("sys.executable", str(host.python.get("executable"))), ("pip", str(pip.get("path") if isinstance(pip, dict) else "none"))],
                why="pip of the shell belongs to another Python" if _other(host) else "",
                fix=["make setup  # this project's pinned set", "python -m pip install torch"])  # fmt: skip


def _other(host: Host) -> bool:
    pip = host.python.get("pip")
    prefix = str(host.python.get("prefix", ""))
    return (
        isinstance(pip, dict) and bool(prefix) and not pip.get("path", "").startswith(prefix + "/")
    )


@check("torch.cuda", "Was torch built for CUDA?", ("torch.installed",))
def cuda(host: Host) -> Finding:
    """A CPU or ROCm wheel on a machine with an NVIDIA card."""
    built = host.build("torch")
    if not built:
        return unknown("torch/version.py was not read")
    if built.get("cuda"):
        return ok(f"CUDA {built['cuda']}")
    kind = "ROCm" if built.get("hip") else "XPU" if built.get("xpu") else "the CPU"
    if not stack.expected(host):
        return ok(f"built for {kind}; there is no NVIDIA GPU")
    lowest = min(stack.capabilities(host), default=(8, 0))
    return fail(f"torch was built for {kind}, so it will not use the GPU", observed=stack.torch_version(host), expected="a CUDA build",
                evidence=[("torch/version.py", f"cuda = {built.get('cuda')}")], fix=stack.install_torch(host, lowest),
                why="the package index served a wheel without CUDA, or another package replaced it")  # fmt: skip


@check("torch.arch", "Has torch code for every card?", ("torch.installed", "torch.cuda", *WORKS))
def arch(host: Host) -> Finding:
    """The wheel's architectures against the compute capabilities."""
    if not stack.torch_cuda(host):
        return skip("torch was built without CUDA")
    capabilities = stack.capabilities(host)
    if not capabilities:
        return skip("no GPU to compare with")
    built = stack.torch_arch(host)
    if built is None:
        return unknown(f"no rule knows what torch {stack.torch_version(host)} was built for")
    for cc in capabilities:
        if not stack.runs_on(built, cc):
            sm = f"sm_{cc[0]}{cc[1]}"
            name = next((g.name for g in stack.gpus(host) if g.cc == cc), "this card")
            newer = all(cc > _cc(a) for a in built)
            return fail(
                f"This torch has no code for {name} ({sm}): `no kernel image is available`", observed=" ".join(built), expected=sm,
                evidence=[("torch " + stack.torch_version(host), " ".join(built)), (name, sm)], fix=stack.install_torch(host, cc),
                why="the card is newer than the wheel" if newer else "this build dropped older cards",
            )  # fmt: skip
    return ok(" ".join(built))


def _cc(name: str) -> tuple[int, int]:
    digits = "".join(c for c in name if c.isdigit())
    return int(digits[:-1]), int(digits[-1])


@check(
    "torch.whole", "Do torch's files and its metadata say the same version?", ("torch.installed",)
)
def whole(host: Host) -> Finding:
    """Files of one torch under the metadata of another: two installers, or a broken upgrade."""
    said, really = host.version("torch"), host.build("torch").get("version")
    if not said or not really:
        return skip("one of them is not known")
    if said.split("+")[0] == str(really).split("+")[0] and ("+" not in said or said == really):
        return ok(str(really))
    return fail(f"torch's files are {really}, its metadata says {said}", observed=str(really), expected=said,
                evidence=[("torch/version.py", str(really)), ("METADATA", said)],
                fix=f"pip uninstall -y torch && pip install --no-cache-dir torch=={said.split('+')[0]}")  # fmt: skip


@check(
    "triton.card", "Can Triton compile for every card?", ("torch.arch", "torch.installed", *WORKS)
)
def triton(host: Host) -> Finding:
    """Triton and torch.compile refuse cards below 7.0."""
    lowest = min(stack.capabilities(host), default=None)
    if lowest is None:
        return skip("no GPU to compare with")
    if not host.package("triton"):
        return warn(
            "triton is not installed: our kernels and torch.compile are off",
            blocks=("triton", "compile"),
            fix=f"pip install --force-reinstall torch=={stack.torch_version(host).split('+')[0]}",
        )
    if lowest >= rules.capability("triton"):
        return ok(f"triton {host.version('triton')}")
    return fail(f"Triton cannot compile for sm_{lowest[0]}{lowest[1]}: our kernels and torch.compile are off", blocks=("triton", "compile"),
                observed=f"{lowest[0]}.{lowest[1]}", expected=">= 7.0", fix="FTLAB_KERNELS=off ftrun train CONFIG")  # fmt: skip


@check("triton.ptxas", "Does Triton's assembler know the card?", ("triton.card",))
def ptxas(host: Host) -> Finding:
    """The ptxas in the wheel, or the one of TRITON_PTXAS_PATH."""
    built = host.build("triton")
    if not built:
        return skip("triton's ptxas was not asked")
    override = built.get("override")
    if override and not override[0].isdigit():
        return fail(
            "TRITON_PTXAS_PATH names a program that does not run",
            observed=str(host.env("TRITON_PTXAS_PATH")),
            blocks=("triton", "compile"),
            fix="unset TRITON_PTXAS_PATH",
        )
    words = [override] if override else [built.get("ptxas", ""), built.get("ptxas-blackwell", "")]
    known = sorted(w for w in words if w and w[0].isdigit())
    if not known:
        return fail("Triton's ptxas does not run", observed=str(words[0] or "missing"), blocks=("triton", "compile"),
                    fix="pip install --force-reinstall --no-deps triton==" + str(host.version("triton"))) if any(words) else \
            unknown("its version is not known")  # fmt: skip
    cards = stack.capabilities(host)
    told = {cc: [rules.assembles(word, cc) for word in known] for cc in cards}
    lost = [cc for cc in cards if not any(told[cc]) and None not in told[cc]]
    if lost:
        return _lost(known[-1], lost[0], bool(override))
    unsure = [f"sm_{a}{b}" for (a, b), answers in told.items() if not any(answers)]
    if unsure:
        return unknown(f"no rule knows whether ptxas {known[-1]} assembles for {', '.join(unsure)}")
    return ok(f"ptxas {', '.join(known)}")


def _lost(known: str, cc: tuple[int, int], override: bool) -> Finding:
    """A card that no ptxas here assembles for: it is too new, or has been dropped."""
    can = [row["ptxas"] for row in rules.tables()["ptxas"] if f"sm_{cc[0]}{cc[1]}" in row["arch"]]
    newest = "export TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas  # of CUDA 13"
    dropped = bool(can) and _number(can[-1]) < _number(known)
    return fail(
        f"Triton's ptxas {known} {'no longer assembles' if dropped else 'does not know'} sm_{cc[0]}{cc[1]}",
        observed=f"ptxas {known}" + (", by TRITON_PTXAS_PATH" if override else ""),
        expected=(f"<= {can[-1]}" if dropped else f">= {can[0]}") if can else "a newer one",
        evidence=[("ptxas --version", known)], blocks=("triton", "compile"),
        fix=["unset TRITON_PTXAS_PATH"] if override else ["pip install 'triton<3.7'"] if dropped else [newest, "pip install -U triton"],
    )  # fmt: skip


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
