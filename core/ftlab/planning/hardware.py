"""Decisions from the hardware: device, precision, compute dtype, attention; packages that must be.

The dtype follows the compute capability alone. torch's own question whether bf16 is supported says
yes on cards that only emulate it.
"""

from __future__ import annotations

from ftlab import estimate
from ftlab.facts import Gpu
from ftlab.planning import ranks
from ftlab.planning.draft import Draft
from ftlab.planning.words import size
from ftlab.values import parse_bytes

OLDEST = (7, 0)  # oldest compute capability that the engine is made for
NATIVE_BF16 = (8, 0)


def decide_device(draft: Draft) -> Gpu | None:
    """Choose the GPUs, or None for the CPU; refuses what does not exist.

    Returns:
        the GPU, or of several the one with the least free memory: each does the same work.
    """
    wanted = draft.config.launch.devices
    if wanted == "auto":
        gpu = _auto_device(draft)
        chosen = [gpu] if gpu is not None else []
    elif isinstance(wanted, int):
        chosen = ranks.some_gpus(draft, wanted, OLDEST, _why_no_gpu(draft))
    else:
        chosen = ranks.these_gpus(draft, wanted, _why_no_gpu(draft))
    gpu = min(chosen, key=lambda card: card.free_bytes, default=None)
    ranks.decide_world(draft, chosen)
    if gpu is not None and gpu.capability < OLDEST:
        draft.refuse_here(
            "launch.devices",
            f"{gpu.name} has compute capability {_dotted(gpu)}; the oldest supported is 7.0",
            "launch.devices: [] trains on the CPU",
        )
    _name_device(draft, gpu, len(chosen))
    return gpu


def _auto_device(draft: Draft) -> Gpu | None:
    gpus = draft.facts.machine.gpus
    usable = [gpu for gpu in gpus if gpu.capability >= OLDEST]
    if usable:
        gpu = usable[0]
        among = f"the first of {len(gpus)} GPUs" if len(gpus) > 1 else "the only GPU"
        draft.decide("launch.devices", [gpu.index], f"{gpu.name} is {among}")
        return gpu
    old = f"{gpus[0].name} is older than compute capability 7.0" if gpus else ""
    draft.decide("launch.devices", [], old or _why_no_gpu(draft))
    return None


def _name_device(draft: Draft, gpu: Gpu | None, count: int) -> None:
    machine = draft.facts.machine
    if gpu is None:
        draft.decide("device", "cpu", f"{machine.cpu}, {machine.threads} threads")
        return
    free = f"{size(gpu.free_bytes)} of {size(gpu.total_bytes)} free"
    # A process sees only its own GPU, so its number there is always 0.
    if count > 1:
        free = f"at least {free}"
        draft.decide("device", "cuda:0", f"each of {count} processes sees one {gpu.name}, {free}")
        return
    draft.decide("device", "cuda:0", f"GPU {gpu.index}: {gpu.name}, {free}")


def _why_no_gpu(draft: Draft) -> str:
    return draft.facts.machine.gpu_problem or "no CUDA GPU is visible here"


def decide_compute(draft: Draft, gpu: Gpu | None) -> None:
    """Choose precision, compute dtype and loss scaling; refuses what the device lacks."""
    native, why = _native(draft, gpu)
    _from_checkpoint(draft)
    precision = draft.config.model.precision
    dense = precision in ("bf16", "fp16", "fp32")
    if precision == "auto" or not dense:
        compute, reason = native, why
    elif gpu is None and precision != "fp32" and not _cpu_has(draft, precision):
        compute, reason = "fp32", f"the CPU has no native {precision}; weights are held in it"
        full = draft.config.adapter.kind == "none"
        effect = "only sets the dtype of the result" if full else "only saves memory"
        draft.warnings.append(
            f"model.precision {precision} on this CPU {effect}: products run in fp32"
        )
    else:
        compute, reason = precision, "model.precision says so"
    if precision == "bf16" and gpu is not None and gpu.capability < NATIVE_BF16:
        draft.refuse_here(
            "model.precision",
            f"{gpu.name} (compute capability {_dotted(gpu)}) has no native bf16",
            "use fp16 or auto",
        )
    draft.decide("compute_dtype", compute, reason)
    scaling = compute == "fp16"
    draft.decide(
        "loss_scaling",
        scaling,
        "fp16 gradients underflow without it" if scaling else f"{compute} has the range of fp32",
    )


def _native(draft: Draft, gpu: Gpu | None) -> tuple[str, str]:
    """The compute dtype of this device and its reason."""
    if gpu is not None:
        if gpu.capability >= NATIVE_BF16:
            return "bf16", f"compute capability {_dotted(gpu)} has native bf16"
        return "fp16", f"compute capability {_dotted(gpu)} has no native bf16; loss is scaled"
    if draft.facts.machine.cpu_bf16:
        return "fp32", "exact on a CPU; model.precision: bf16 would use this CPU's bf16 units"
    return "fp32", "this CPU has no native bf16"


def _cpu_has(draft: Draft, precision: str) -> bool:
    return precision == "bf16" and draft.facts.machine.cpu_bf16


def _from_checkpoint(draft: Draft) -> None:
    """A checkpoint that is stored quantised fixes the precision."""
    stored = draft.facts.model.quantization
    if not stored:
        return
    kinds = {"bitsandbytes-nf4": "nf4", "bitsandbytes-int8": "int8"}
    if stored not in kinds:
        draft.refuse_here(
            "model.name",
            f"the checkpoint is quantised with {stored}, which cannot be trained on",
            "use the original checkpoint, or one in bitsandbytes nf4 or int8",
        )
        return
    precision, asked = kinds[stored], draft.config.model.precision
    if draft.config.adapter.kind == "none":
        draft.refuse_config(
            "adapter.kind", f"the checkpoint is stored in {precision}, and frozen weights of "
            "that kind cannot all be trained", "use adapter.kind: lora or the original checkpoint",
        )  # fmt: skip
    elif asked not in ("auto", precision):
        draft.refuse_config(
            "model.precision", f"the checkpoint is stored in {precision}, asked was {asked}",
            f"use {precision} or the original checkpoint",
        )  # fmt: skip
    elif asked == "auto":
        draft.decide("model.precision", precision, f"the checkpoint is stored in {precision}")


def decide_attention(draft: Draft, gpu: Gpu | None) -> None:
    """Say which engine and which attention run."""
    draft.decide("engine", "fused", "each layer forward and backward by hand, its buffers reused")
    spec = draft.spec
    if gpu is not None:
        reason = "the faster of our kernel and a repeatable library's, for each batch"
        draft.decide("attention", "kernel", reason)
    elif spec.attention_softcap is not None:
        draft.decide("attention", "block", "the model soft-caps its attention scores")
    elif any(window is not None for window in spec.windows):
        draft.decide("attention", "sdpa+block", "block in layers whose sliding window bites")
    else:
        draft.decide("attention", "sdpa", "torch's own is repeatable on a CPU")


def check_packages(draft: Draft) -> None:
    """Refuse what needs a package that is not installed."""
    versions = draft.facts.machine.versions
    if not versions or "bitsandbytes" in versions:
        return
    for path, value in (
        ("model.precision", draft.config.model.precision),
        ("optim.name", draft.config.optim.name),
    ):
        if value in ("nf4", "int8", "adamw_8bit"):
            draft.refuse_here(path, f"{value} needs bitsandbytes, which is not installed")


def memory_budget(draft: Draft, gpu: Gpu | None) -> int:
    """Bytes that training may take; decides memory.budget when it is auto."""
    machine = draft.facts.machine
    free = gpu.free_bytes if gpu is not None else machine.memory_free_bytes
    total = gpu.total_bytes if gpu is not None else machine.memory_bytes
    where = "the GPU" if gpu is not None else "the machine"
    if draft.config.memory.budget != "auto":
        return _asked_budget(draft, free, total, where)
    share = 0.95 if gpu is not None else 0.9
    # The context is not yet part of what is in use on a GPU, so it is counted as ours.
    budget = int(free * share)
    shared = ""
    if gpu is None and draft.world_size > 1:
        budget //= draft.world_size
        shared = f", for each of {draft.world_size} processes"
    draft.decide(
        "memory.budget",
        f"{max(1, budget // estimate.MIB)}MiB",
        f"{share:.0%} of the {size(free)} that are free on {where}{shared}",
    )
    return budget


def _asked_budget(draft: Draft, free: int, total: int, where: str) -> int:
    budget = parse_bytes(draft.config.memory.budget)
    if budget > total:
        draft.refuse_here(
            "memory.budget", f"{size(budget)} were asked for, and {where} has {size(total)}"
        )
    elif budget > free:
        draft.warnings.append(
            f"memory.budget is {size(budget)}, and only {size(free)} are free on {where} now"
        )
    return budget


def _dotted(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.capability))
