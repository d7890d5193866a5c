"""The identity of a run: every fact that could change its result, each with what it could change.

A field is `{"value": ..., "class": ...}`, with `"reason"` where there is one to tell. Classes:
`bits` - a change may change bits, within rounding; `numerics` - a change may change results beyond
rounding (other data, model, settings); `none` - it is recorded, and changes nothing.
Nothing here imports torch, and nothing fails: what cannot be known is null, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab import atomic, pins, versions
from ftlab.errors import FtlabError
from ftlab.facts import to_json
from ftlab.planning.identity import BY_CONTENT, HARMLESS
from ftlab.run import Run

if TYPE_CHECKING:
    from ftlab.plan import Plan

BITS, NUMERICS, NONE = "bits", "numerics", "none"
Field = dict[str, Any]

# Environment variables that change numerics: the allow-list. Nothing else is ever recorded.
VARIABLES = frozenset({
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE", "NVIDIA_TF32_OVERRIDE",
    "BNB_CUDA_VERSION", "PYTHONHASHSEED", "FTLAB_DETERMINISTIC",
})  # fmt: skip
PREFIXES = (
    "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "DNNL_", "ONEDNN_", "CUDNN_", "NCCL_", "TORCH_",
    "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "XFORMERS_", "FTLAB_KERNEL",
)  # fmt: skip
_PLACE = re.compile(r"_(CACHE_DIR|HOME|PATH)$")  # where something lies changes no result
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|AUTH", re.IGNORECASE)

# Settings and choices that change rounding at most; every other one may change the result.
_BITS_ONLY = frozenset({
    "train.micro_batch_size", "memory.checkpointing", "data.packing", "device", "attention",
    "engine", "token_budget", "world_size",
})  # fmt: skip
# Dropout is drawn for each micro-batch: with it, what decides their layout decides the masks.
_LAYOUT = frozenset({"train.micro_batch_size", "data.packing", "token_budget"})
_HARMLESS = HARMLESS | BY_CONTENT  # of BY_CONTENT, what they lead to is hashed


def collect(run: Run, plan: Plan, measured: Mapping[str, Any] | None = None) -> dict[str, Field]:
    """Every identity field, dotted name -> field.

    Args:
        measured: what only the trainer knows: `kernels` (name -> compiled hash, launch settings)
            and `machine` (facts.Machine as it was when training), both optional.
    """
    known = dict(measured or {})
    return {
        **dict(_software()),
        **dict(_hardware(plan, known)),
        **dict(_kernels(known)),
        **dict(_sources(plan, run)),
        **dict(_plan(plan)),
        **dict(_variables(os.environ)),
        **dict(_git(Path.cwd())),
    }


def changes(before: Mapping[str, Field], now: Mapping[str, Field]) -> dict[str, Field]:
    """The fields that differ: name -> {"before", "now", "class"}."""
    names = [n for n in {**before, **now} if _value(before, n) != _value(now, n)]
    return {
        name: {
            "before": _value(before, name),
            "now": _value(now, name),
            "class": (now.get(name) or before[name]).get("class", NONE),
        }
        for name in names
    }


def matters(name: str) -> bool:
    """Whether an environment variable changes numerics, and so may be recorded."""
    listed = name in VARIABLES or name.startswith(PREFIXES)
    return listed and not _SECRET.search(name) and not _PLACE.search(name)


def _value(fields: Mapping[str, Field], name: str) -> Any:
    return fields.get(name, {}).get("value")


def _field(value: Any, kind: str, reason: str = "") -> Field:
    made: Field = {"value": atomic.plain(value), "class": kind}
    return {**made, "reason": reason} if reason else made


def _software() -> Iterator[tuple[str, Field]]:
    image = os.environ.get("FTLAB_IMAGE_DIGEST") or None
    yield "image.digest", _field(image, BITS, "" if image else "not in an image of ftlab")
    yield from _lock()
    yield "version.ftlab", _field(versions.ours(), BITS)
    yield "version.python", _field(versions.python(), BITS)
    yield "version.cuda", _field(versions.torch_cuda(), BITS)
    for name, version in versions.installed().items():
        yield f"version.{name}", _field(version, BITS)


def _lock() -> Iterator[tuple[str, Field]]:
    """The lock of this environment, and how what is installed differs from it."""
    lock = pins.find()
    if lock is None:
        for name in ("sha256", "changed", "extra"):
            yield f"lock.{name}", _field(None, BITS, "no lock is known")
        return
    drift = pins.drift(lock)
    yield "lock.sha256", _field(lock.sha256, BITS, lock.found)
    yield "lock.changed", _field(drift.changed, BITS)
    yield "lock.extra", _field(drift.extra, NONE)


def _hardware(plan: Plan, measured: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
    machine = {**to_json(plan.facts.machine), **dict(measured.get("machine") or {})}
    on_gpu = str(_decided(plan, "device") or "").startswith("cuda")
    gpu_kind, cpu_kind = (BITS, NONE) if on_gpu else (NONE, BITS)
    yield "driver", _field(machine.get("driver") or None, gpu_kind)
    yield "cpu", _field(machine.get("cpu"), cpu_kind)
    yield "cpu.threads", _field(machine.get("threads"), cpu_kind)
    yield "platform", _field(machine.get("platform"), NONE)
    gpus = [dict(gpu) for gpu in machine.get("gpus") or ()]
    yield "gpu.name", _field([g.get("name") for g in gpus], gpu_kind)
    yield "gpu.multiprocessors", _field([g.get("multiprocessors") for g in gpus], gpu_kind)
    yield "gpu.capability", _field([g.get("capability") for g in gpus], gpu_kind)
    yield "gpu.ecc", _field([g.get("ecc") for g in gpus], NONE)
    yield "gpu.total_bytes", _field([g.get("total_bytes") for g in gpus], NONE)


def _kernels(measured: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
    yield "kernels.source_sha256", _field(versions.source_sha256("ftlab_kernels"), BITS)
    yield "ftlab.source_sha256", _field(versions.source_sha256("ftlab"), BITS)
    for name, compiled in sorted(dict(measured.get("kernels") or {}).items()):
        yield f"kernels.compiled.{name}", _field(compiled, BITS)


def _sources(plan: Plan, run: Run) -> Iterator[tuple[str, Field]]:
    model, data = plan.facts.model, plan.facts.data
    named = NONE if "weights" in model.hashes else NUMERICS  # without it, the name must do
    yield "model.name", _field(model.name, named)
    yield "model.revision", _field(model.revision or None, named)
    for name, digest in model.hashes.items():
        yield f"model.{name}_sha256", _field(digest, NUMERICS)
    yield "data.source", _field(data.source, NONE)
    yield "data.revision", _field(getattr(data, "revision", "") or None, NONE)
    yield "data.store_sha256", _field(data.sha256, NUMERICS)
    stream, reason = _stream_sha256(run)
    yield "data.stream_sha256", _field(stream, NUMERICS, reason)
    if plan.facts.eval_data is not None:
        yield "eval_data.store_sha256", _field(plan.facts.eval_data.sha256, NUMERICS)


def _stream_sha256(run: Run) -> tuple[str | None, str]:
    """The hash of the tokenised, packed, ordered stream, as the batch index states it."""
    try:
        digest = atomic.read_json(run.data_dir / "index.json").get("sha256")
    except FtlabError as error:
        return None, str(error)
    return (digest, "") if isinstance(digest, str) else (None, "data/index.json states no sha256")


def _plan(plan: Plan) -> Iterator[tuple[str, Field]]:
    yield "plan.hash", _field(plan.hash, BITS)  # the settings below say which part is numerics
    yield "plan.steps", _field(plan.steps, NUMERICS)
    yield "seed", _field(plan.config.train.seed, NUMERICS)
    settings = {
        f"{section}.{name}": value
        for section, values in plan.config.to_dict().items()
        for name, value in values.items()
    }
    for path, value in settings.items():
        decision = plan.decisions.get(path)
        kind = _class_of(path, plan)
        yield f"config.{path}", _field(value, kind, decision.reason if decision else "")
    for path, decision in plan.decisions.items():
        if path not in settings:
            yield f"decision.{path}", _field(decision.value, _class_of(path, plan), decision.reason)


def _class_of(path: str, plan: Plan) -> str:
    if path in _HARMLESS or path.startswith("launch."):
        return NONE
    if path in _LAYOUT and plan.config.adapter.lora_dropout:
        return NUMERICS
    return BITS if path in _BITS_ONLY else NUMERICS


def _decided(plan: Plan, name: str) -> Any:
    decision = plan.decisions.get(name)
    return decision.value if decision else None


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, Field]]:
    for name, value in sorted(environment.items()):
        if matters(name):
            yield f"environment.{name}", _field(value, BITS)


def _git(folder: Path) -> Iterator[tuple[str, Field]]:
    """Commit and uncommitted changes of the working directory; what ran is hashed elsewhere."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    reason = "" if commit else "the working directory is no git repository, or git is missing"
    yield "git.commit", _field(commit.decode().strip() if commit else None, NONE, reason)
    patch = _run_git(folder, "diff", "--no-ext-diff", "--binary", "HEAD") if commit else None
    digest = hashlib.sha256(patch).hexdigest() if patch else None
    yield "git.dirty_patch_sha256", _field(digest, NONE, "" if digest else "no changes")


def _run_git(folder: Path, *arguments: str) -> bytes | None:
    command = ["git", "-C", os.fspath(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=20, check=False, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
