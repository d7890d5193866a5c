"""Environment variables that were left set: what they break, slow down or change without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftlab_doctor import stack
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import satisfies

# Options that the allocators of torch 2.4 and 2.10 know, read out of their libraries.
ALLOCATOR = frozenset((
    "backend", "expandable_segments", "garbage_collection_threshold", "graph_capture_record_stream_reuse",
    "max_non_split_rounding_mb", "max_split_size_mb", "per_process_memory_fraction", "pinned_num_register_threads",
    "pinned_reserve_segment_size_mb", "pinned_use_background_threads", "pinned_use_cuda_host_register",
    "release_lock_on_cudamalloc", "roundup_power2_divisions",
))  # fmt: skip
ON = ("1", "true", "yes", "on")
# variable: (the values that matter, needs a GPU to matter, what it does)
COSTLY = {
    "CUDA_LAUNCH_BLOCKING": (ON, True, "each kernel is waited for: training is several times slower"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": (None, True, "every tensor is allocated by the driver: many times slower"),
    "TRITON_INTERPRET": (ON, True, "Triton kernels run in Python, one element after another"),
    "TRITON_ALWAYS_COMPILE": (ON, True, "every kernel is compiled at every start"),
    "CUDA_FORCE_PTX_JIT": (ON, True, "the machine code in the wheels is ignored and made anew"),
    "CUDA_CACHE_DISABLE": (ON, True, "code made from PTX is thrown away after every run"),
    "TORCHDYNAMO_DISABLE": (ON, False, "torch.compile does nothing"),
    "NVIDIA_TF32_OVERRIDE": (("0", "1"), True, "it overrules what the program decides about TF32: other numbers than elsewhere"),
}  # fmt: skip


@check("vars.allocator", "Can torch read the allocator's options?", ("torch.installed",))
def allocator(host: Host) -> Finding:
    """PYTORCH_CUDA_ALLOC_CONF: option:value, separated by commas; torch refuses anything else."""
    name = next((n for n in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF") if host.env(n)), "")
    value = host.env(name) or ""
    if not value:
        return ok("not set")
    for part in _options(value):
        option, colon, said = (piece.strip() for piece in part.partition(":"))
        facts = {"observed": value, "expected": "option:value,option:value", "evidence": [(name, value)], "fix": f"unset {name}"}  # fmt: skip
        if not colon or not said or not re.fullmatch(r"[a-z0-9_]+", option):
            return fail(
                f"{name} cannot be read at `{part}`: torch stops at the first tensor", **facts
            )
        if option not in ALLOCATOR:
            return warn(f"{name} has an option that this doctor does not know: {option}", **facts)
    return ok(value)


def _options(value: str) -> Iterator[str]:
    """The options, with commas inside brackets left alone."""
    yield from (part for part in re.split(r",(?![^\[]*\])", value.strip().rstrip(",")) if part)


@check("vars.ranks", "Does no variable make this process wait for others?")
def ranks(host: Host) -> Finding:
    """WORLD_SIZE without a launcher: every process group waits for partners that nobody starts."""
    world, launched = host.env("WORLD_SIZE") or "", _launched(host)
    if not world.isdigit() or int(world) < 2 or launched:
        return ok(f"started by {launched}" if launched else "not set")
    return warn(
        f"WORLD_SIZE={world} is left over from another job: training waits for {int(world) - 1} more processes",
        observed=f"WORLD_SIZE={world}", expected="not set, or set by torchrun", blocks=("train",),
        evidence=[("WORLD_SIZE", world), ("RANK", host.env("RANK") or "not set")],
        fix="unset WORLD_SIZE RANK LOCAL_RANK MASTER_PORT",
    )  # fmt: skip


def _launched(host: Host) -> str:
    """Who started this process as one of several; "" if nobody did."""
    if any(name.startswith("TORCHELASTIC_") for name in host.section("env")):
        return "torchrun"
    if (host.env("SLURM_NTASKS") or "1") != "1":
        return "Slurm"
    return "accelerate" if any(n.startswith("ACCELERATE_") for n in host.section("env")) else ""


@check("vars.interfaces", "Do the network interfaces exist that variables name?")
def interfaces(host: Host) -> Finding:
    """NCCL and Gloo take prefixes: "eth" is eth0; "^" excludes and "=" is exact."""
    have = host.system.get("interfaces")
    named = {
        n: host.env(n) or "" for n in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if host.env(n)
    }
    if not named:
        return ok("none are named")
    if not have:
        return unknown("the interfaces are not known")
    for name, value in named.items():
        wanted = [part.lstrip("=") for part in value.split(",") if part]
        if not value.startswith("^") and not any(
            i.startswith(part) for part in wanted for i in have
        ):
            return warn(f"{name} names {value}, and there is no such interface: processes do not find each other", observed=value,
                        expected=", ".join(i for i in have if i != "lo") or "lo", blocks=("multi-gpu",), evidence=[(name, value), ("/sys/class/net", " ".join(have))],
                        fix=f"unset {name}")  # fmt: skip
    return ok(", ".join(named.values()))


@check("vars.transfer", "Is what the hub's variables ask for installed?")
def transfer(host: Host) -> Finding:
    """HF_HUB_ENABLE_HF_TRANSFER=1 stops every download of huggingface-hub 0.x without hf_transfer."""
    value, hub = host.env("HF_HUB_ENABLE_HF_TRANSFER") or "", host.version("huggingface-hub")
    if value.lower() not in ON or hub is None:
        return ok("no transfer package is asked for")
    if host.package("hf-transfer") or not satisfies(hub, "<1.0"):
        return ok(f"huggingface-hub {hub}")
    return fail("HF_HUB_ENABLE_HF_TRANSFER is set and hf_transfer is not installed: downloads stop",
                observed=value, expected="not set", blocks=("download",), evidence=[("HF_HUB_ENABLE_HF_TRANSFER", value)],
                fix="unset HF_HUB_ENABLE_HF_TRANSFER")  # fmt: skip


@check("vars.costly", "Is no variable for debugging left set?")
def costly(host: Host) -> Finding:
    """They are honoured silently, and training is slow or its numbers are others."""
    if not host.has("env"):
        return unknown("the variables are not known")
    on_gpu = stack.expected(host)
    for name, (values, gpu, what) in COSTLY.items():
        value = host.env(name)
        if value is None or (gpu and not on_gpu):
            continue
        if values is None or value.lower() in values:
            return warn(f"{name}={value} is set: {what}", observed=value, expected="not set", blocks=("speed",),
                        evidence=[(name, value)], fix=f"unset {name}")  # fmt: skip
    return ok("none") if on_gpu or host.has("pci") else skip("no GPU to slow down")
