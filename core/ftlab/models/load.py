"""Loading: weights in the wanted precision, the tokenizer, the spec, and the adapter beside it.

The Hugging Face class that transformers itself has for the architecture is always used, so model
code of a repository never runs for it; `trust_remote_code` reaches the tokenizer only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ftlab.errors import ConfigError, EnvironmentUnfit, Problem
from ftlab.lora.inject import inject
from ftlab.models.dtypes import DTYPES, as_dtype
from ftlab.models.families import dialect_of, spec_from_config, with_rope_scaling
from ftlab.models.source import Source, fetch_weights, quantisation_of, read_config, resolve
from ftlab.models.spec import DecoderSpec
from ftlab.schema import AdapterSection

__all__ = ["Loaded", "Source", "load_model", "load_tokenizer", "resolve"]

_QUANTISED = {"nf4": "bitsandbytes-nf4", "int8": "bitsandbytes-int8"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to be attached."""

    model: nn.Module  # Hugging Face causal LM, or PeftModel around it
    tokenizer: Any
    spec: DecoderSpec


def load_model(
    path: str,
    *,
    precision: str = "fp32",
    compute_dtype: str | torch.dtype = "fp32",
    device: str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    rope_scaling: str | Mapping[str, Any] | None = "auto",
    adapter: AdapterSection | None = None,
    seed: int = 0,
    offline: bool = False,
) -> Loaded:
    """Load a model for training.

    Args:
        path: local folder or hub id.
        precision: how base weights are held: nf4, int8, bf16, fp16 or fp32. A full fine-tune
            (adapter None or of kind none) holds fp32 masters whatever is asked.
        compute_dtype: fp32, bf16 or fp16: what is not quantised in a quantised model.
        device: "cpu" or "cuda:0".
        rope_scaling: the setting `model.rope_scaling`.
        adapter: LoRA to put beside frozen weights, started by `seed`.

    Raises:
        EnvironmentUnfit: the model cannot be had or is not supported, with what to do.
        ConfigError: settings that contradict the model.
    """
    source = resolve(path, revision, offline=offline, trust_remote_code=trust_remote_code)
    raw = read_config(source.folder)
    spec = spec_from_config(raw, rope_scaling)
    full = adapter is None or adapter.kind == "none"
    _check_precision(raw, precision, full)
    folder = fetch_weights(source, offline=offline)
    tokenizer = load_tokenizer(str(folder), trust_remote_code=trust_remote_code)
    config = _native_config(with_rope_scaling(raw, rope_scaling), source.name)
    held = "fp32" if full else precision
    # PyTorch's attention knows no soft-cap: transformers 4 leaves it out without a word, 5 refuses.
    attention = "sdpa" if spec.attention_softcap is None else "eager"
    model = _weights(folder, config, held, as_dtype(compute_dtype), device, attention)
    model.name_or_path = source.name
    _freeze(model, spec, full)
    if adapter is not None and not full:
        return Loaded(inject(model, adapter, spec, seed), tokenizer, spec)
    return Loaded(model, tokenizer, spec)


def load_tokenizer(
    path: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    *,
    offline: bool = False,
) -> Any:
    """The tokenizer of a model; weights are not touched.

    Raises EnvironmentUnfit where there is none that transformers can read.
    """
    source = resolve(path, revision, offline=offline, trust_remote_code=trust_remote_code)
    extra = {"trust_remote_code": True} if trust_remote_code else {}
    cls: Any = transformers.AutoTokenizer
    if _tokenizer_class(source.folder) == "TokenizersBackend" and _major() < 5:
        # transformers 5's name for the class that 4 calls PreTrainedTokenizerFast.
        cls = transformers.PreTrainedTokenizerFast
    try:
        return cls.from_pretrained(str(source.folder), local_files_only=True, **extra)
    except Exception as error:  # tokenizers raises bare exceptions for malformed files
        raise EnvironmentUnfit(
            f"no usable tokenizer in {source.folder}: {type(error).__name__}: {error}"
        ) from error


def _check_precision(raw: Mapping[str, Any], precision: str, full: bool) -> None:
    """Refuse what would silently be something else."""
    if precision not in (*DTYPES, *_QUANTISED):
        allowed = ", ".join((*DTYPES, *_QUANTISED))
        raise ConfigError([Problem("model.precision", f"got {precision!r}, allowed: {allowed}")])
    stored, wanted = quantisation_of(raw), _QUANTISED.get(precision, "")
    if stored and stored not in _QUANTISED.values():
        raise EnvironmentUnfit(
            f"the checkpoint is quantised as {stored!r}; supported are unquantised ones and "
            f"{', '.join(_QUANTISED.values())}"
        )
    if stored and stored != wanted:
        hint = f"set it to {next(k for k, v in _QUANTISED.items() if v == stored)}"
        message = f"{precision} was asked for, but the checkpoint is stored as {stored}"
        raise ConfigError([Problem("model.precision", message, hint)])
    if full and (wanted or stored):
        message = f"{precision} weights are frozen, and adapter.kind: none trains every weight"
        raise ConfigError([Problem("model.precision", message, "use bf16, fp16 or fp32")])


def _native_config(raw: Mapping[str, Any], name: str) -> Any:
    """The transformers config of a raw one, in the dialect of the installed version."""
    values = dialect_of(raw, _major())
    values.pop("auto_map", None)  # repository code is not used for the model
    model_type = values.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise EnvironmentUnfit(
            f"transformers {transformers.__version__} does not know the model_type "
            f"{model_type!r} of {name!r}"
        )
    try:
        return transformers.CONFIG_MAPPING[model_type].from_dict(values)
    except (ValueError, KeyError, TypeError) as error:
        raise EnvironmentUnfit(f"transformers refuses the config of {name!r}: {error}") from error


def _weights(
    folder: Path, config: Any, precision: str, compute_dtype: torch.dtype, device: str,
    attention: str,
) -> Any:  # fmt: skip
    """The Hugging Face model; refused if a tensor is missing or has another shape."""
    arguments: dict[str, Any] = {"dtype": DTYPES.get(precision, compute_dtype)}
    if precision in _QUANTISED or device != "cpu":
        arguments["device_map"] = {"": device}
    stored = getattr(config, "quantization_config", None)
    if stored is not None:  # its own settings hold, but for the dtype it computes in
        stored["bnb_4bit_compute_dtype"] = str(compute_dtype).removeprefix("torch.")
    elif precision in _QUANTISED:
        arguments["quantization_config"] = _bitsandbytes(precision, compute_dtype)
    try:
        with _quiet():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                str(folder),
                config=config,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation=attention,
                output_loading_info=True,
                **arguments,
            )
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # transformers, safetensors and accelerate each have their own
        raise EnvironmentUnfit(
            f"cannot load the weights in {folder}: {type(error).__name__}: {error}"
        ) from error
    lost = [str(key) for kind in ("missing_keys", "mismatched_keys") for key in report[kind]]
    if lost:
        raise EnvironmentUnfit(
            f"the weights in {folder} do not fit their config.json: {', '.join(sorted(lost)[:5])}"
        )
    return model


def _bitsandbytes(precision: str, compute_dtype: torch.dtype) -> Any:
    """NF4 with double quantisation, or 8-bit weights."""
    if precision == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _freeze(model: nn.Module, spec: DecoderSpec, full: bool) -> None:
    """LoRA trains nothing of the base; a full fine-tune all of the text decoder."""
    for name, parameter in model.named_parameters():
        inside = name.startswith((f"{spec.root}.", "lm_head."))
        parameter.requires_grad_(full and inside and parameter.is_floating_point())


def _tokenizer_class(folder: Path) -> str | None:
    try:
        text = (folder / "tokenizer_config.json").read_text(encoding="utf-8")
        return str(json.loads(text).get("tokenizer_class"))
    except (OSError, ValueError):
        return None  # the loader says what is wrong with it


def _major() -> int:
    return int(transformers.__version__.partition(".")[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of transformers; ours tells how far a run is."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
