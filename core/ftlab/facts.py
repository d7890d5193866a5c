"""Facts: what is true here. Made by `probe`, read by `plan.resolve`, kept inside the plan.

Plain frozen dataclasses, standard library only. Bytes are bytes, times are seconds, lengths are
tokens. `to_json` and `from_json` are exact inverses; unknown keys of a newer version are ignored.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

FACTS_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible CUDA device."""

    index: int
    name: str
    capability: tuple[int, int]  # compute capability, such as (8, 0)
    total_bytes: int
    free_bytes: int
    multiprocessors: int = 0
    ecc: bool | None = None
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a run was on a device of this machine."""

    device: str  # name of the card, or of the processor
    precision: str
    compute_dtype: str
    parameters: int  # of the model
    tokens: int  # of a micro-batch, at most
    rate: float  # operations a second, as `planning.timing` counts them


@dataclass(frozen=True, slots=True)
class Machine:
    """The computer and the installed software."""

    platform: str  # such as "Linux-6.1-x86_64"
    cpu: str  # model name
    cpu_count: int  # usable logical cores
    threads: int  # threads torch will use; part of bit-exactness on the CPU
    cpu_bf16: bool  # native bf16 arithmetic (avx512_bf16, amx_bf16)
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int  # where runs/ lies
    driver: str = ""  # NVIDIA driver version, "" without one
    cuda: str = ""  # CUDA version torch was built for
    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = ""  # why torch sees no GPU although one seems to be there
    versions: dict[str, str] = field(default_factory=dict)  # package -> version
    speeds: tuple[Speed, ...] = ()  # of earlier runs


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the model's config.json, tokenizer and files say; no weight is loaded for it."""

    name: str  # as asked for
    path: str  # resolved local folder, or the hub id
    revision: str  # resolved commit, "" for a local folder
    architecture: str  # such as "LlamaForCausalLM"
    family: str  # row of the support table, such as "llama"
    spec: dict[str, Any]  # DecoderSpec as a dict
    parameters: int
    linear_shapes: dict[str, tuple[int, int, int]]  # projection -> (out, in, count over layers)
    embedding_parameters: int  # embed_tokens plus an untied head
    stored_dtype: str  # dtype of the weights on disk
    stored_bytes: int
    quantization: str  # "" or such as "bitsandbytes-nf4" when the checkpoint is quantised
    max_positions: int  # longest position the model was trained for
    has_chat_template: bool
    hashes: dict[str, str] = field(default_factory=dict)  # config, tokenizer, template, weights


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the data is, once read, mapped and tokenised."""

    source: str
    format: str  # recognised format
    format_reason: str
    store: str  # folder of the token store
    sha256: str  # of the token store's contents
    rows: int  # usable rows (pairs for preference data)
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> rows left out
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0
    percentiles: dict[str, int] = field(default_factory=dict)  # "50", "90", "95", "99" -> tokens
    histogram: tuple[tuple[int, int], ...] = ()  # (bucket upper bound in tokens, rows), rising
    over: dict[str, int] = field(default_factory=dict)  # candidate max_length -> rows longer
    # candidate max_length -> what one epoch is there, with data.overlong as configured:
    # (usable rows, tokens of all their sequences, trained tokens)
    usable: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    duplicates: int = 0
    sample: str = ""  # one rendered row, trained text between the marks of data.chat.MARKS
    samples: tuple[str, ...] = ()  # the first row, one of usual length, the longest; as `sample`
    template: str = ""  # where the chat template came from
    preference: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything `plan.resolve` may know."""

    machine: Machine
    model: ModelFacts
    data: DataFacts
    eval_data: DataFacts | None = None
    version: int = FACTS_VERSION


def to_json(value: Any) -> Any:
    """A dataclass tree as plain JSON values (tuples become lists)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], value: Mapping[str, Any]) -> T:
    """Rebuild `cls` from what `to_json` gave. Unknown keys are ignored, missing ones default."""
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: _build(hints[k], v) for k, v in value.items() if k in known})


def _build(annotation: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        for member in arguments:
            structured = dataclasses.is_dataclass(member) and isinstance(value, Mapping)
            if structured or (typing.get_origin(member) is tuple and isinstance(value, list)):
                return _build(member, value)
        return value
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return from_json(annotation, value)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_build(arguments[0], item) for item in value)
        return tuple(_build(a, item) for a, item in zip(arguments, value, strict=True))
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    return value
