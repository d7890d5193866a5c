"""LoRA through PEFT: injected with a seeded start, saved and loaded in PEFT's own format."""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftlab.errors import ConfigError, EnvironmentUnfit, Problem
from ftlab.models.spec import DecoderSpec
from ftlab.schema import AdapterSection
from ftlab_kernels.reference.philox import mix, uniform

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_ADAPTER = "default"


def inject(model: nn.Module, adapter: AdapterSection, spec: DecoderSpec, seed: int) -> PeftModel:
    """Put a LoRA adapter beside a causal LM's projections; everything else is frozen.

    A starts uniform in +-1/sqrt(K) (PEFT's Kaiming start) as a function of (seed, module name)
    alone: no global RNG is read or moved. B starts at zero. Trained tensors are fp32.

    Args:
        model: Hugging Face causal LM described by `spec`; it is changed in place.
        adapter: with kind "lora".
        seed: of the run.

    Raises ConfigError for names in target_modules or modules_to_save that the model lacks.
    """
    from peft import LoraConfig, get_peft_model

    linears, modules = _linears(model, spec), _modules(model, spec)
    problems = [
        *_unknown("adapter.target_modules", _targets(adapter, spec), linears),
        *_unknown("adapter.modules_to_save", adapter.modules_to_save, modules),
        *_tied(adapter, spec),
    ]
    if problems:
        raise ConfigError(problems)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.lora_dropout,
        target_modules=list(_targets(adapter, spec)),
        exclude_modules=_outside(spec),
        bias=adapter.bias,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        modules_to_save=list(adapter.modules_to_save) or None,
        # A tied head and embedding stay one tensor, whichever of them is named.
        ensure_weight_tying=spec.tied_embeddings and _names_head(adapter.modules_to_save),
    )
    with torch.random.fork_rng(devices=[]), _quiet():
        wrapped = get_peft_model(model, config)
    _start(wrapped, seed)
    return _widened(wrapped)


def save_adapter(model: PeftModel, folder: Path | str) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT reads them.

    The same adapter gives the same bytes: tensors are sorted by name and nothing else is written.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    # A tied head and embedding are one parameter under two names; PEFT asks for both.
    named = model.named_parameters(remove_duplicate=False)
    trained = {name: parameter for name, parameter in named if parameter.requires_grad}
    tensors = get_peft_model_state_dict(model, trained, save_embedding_layers=False)
    ordered = {name: tensors[name].detach().cpu().clone() for name in sorted(tensors)}
    save_file(ordered, target / WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config[_ADAPTER].to_dict()
    config["inference_mode"] = True
    text = json.dumps(config, indent=2, sort_keys=True, default=_plain)
    (target / CONFIG).write_text(text + "\n", encoding="utf-8")


def load_adapter(model: nn.Module, folder: Path | str) -> PeftModel:
    """Load an adapter in PEFT's format onto a model, or into the adapter it already carries.

    Raises EnvironmentUnfit for missing files, pickled weights, and tensors that do not fit.
    """
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    source = _adapter_folder(Path(folder))
    if not isinstance(model, PeftModel):
        with torch.random.fork_rng(devices=[]), _quiet():
            return _widened(PeftModel.from_pretrained(model, str(source), is_trainable=True))
    try:
        result = set_peft_model_state_dict(model, load_file(source / WEIGHTS))
    except (RuntimeError, KeyError) as error:
        raise EnvironmentUnfit(
            f"the adapter in {source} does not fit the model: {error}"
        ) from error
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    lost = sorted(trained & set(result.missing_keys)) + sorted(result.unexpected_keys)
    if lost:
        raise EnvironmentUnfit(f"the adapter in {source} does not fit the model: {lost[:5]}")
    return model


def _adapter_folder(folder: Path) -> Path:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = (folder / "adapter_model.bin").is_file()
            hint = "; adapter_model.bin is a pickle and is never loaded" if pickled else ""
            raise EnvironmentUnfit(f"no {name} in {folder}{hint}")
    return folder


def _targets(adapter: AdapterSection, spec: DecoderSpec) -> list[str]:
    if adapter.target_modules == "all-linear":
        return list(spec.layer_linears())
    return list(adapter.target_modules)


def _linears(model: nn.Module, spec: DecoderSpec) -> set[str]:
    """Full names of the projections that may carry an adapter."""
    names = (*spec.layer_linears(), "lm_head")
    return {full for full in _modules(model, spec) if full.rpartition(".")[2] in names}


def _modules(model: nn.Module, spec: DecoderSpec) -> set[str]:
    """Full names of every module with weights in the text decoder."""
    inside = (f"{spec.root}.", "lm_head")
    return {
        name
        for name, module in model.named_modules()
        if name.startswith(inside) and isinstance(getattr(module, "weight", None), Tensor)
    }


def _unknown(path: str, names: Iterable[str], modules: set[str]) -> list[Problem]:
    """Names that are no module's full name or the end of one."""
    known = sorted({module.rpartition(".")[2] for module in modules})
    problems = []
    for name in names:
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            problems.append(Problem(path, f"the model has no module {name!r}", hint))
    return problems


def _names_head(names: Iterable[str]) -> bool:
    return any(name.rpartition(".")[2] in ("lm_head", "embed_tokens") for name in names)


def _tied(adapter: AdapterSection, spec: DecoderSpec) -> list[Problem]:
    """LoRA on a head that is the embedding would have to act on the embedding as well."""
    if not spec.tied_embeddings or "lm_head" not in _targets(adapter, spec):
        return []
    message = "lm_head shares its weight with embed_tokens and cannot carry LoRA"
    return [Problem("adapter.target_modules", message, "name it in modules_to_save instead")]


def _outside(spec: DecoderSpec) -> str | None:
    """Modules outside the text decoder whose names would match (a vision tower's q_proj)."""
    return None if spec.root == "model" else rf"^(?!{spec.root}\.|lm_head).*"


@torch.no_grad()
def _start(model: nn.Module, seed: int) -> None:
    """A uniform in +-1/sqrt(K), drawn by Philox under a key of (seed, name); B zero."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            digest = hashlib.sha256(name.partition(".lora_A.")[0].encode()).digest()
            key = mix(seed, int.from_bytes(digest[:8], "little"))
            bound = parameter.shape[1] ** -0.5
            drawn = uniform(key, parameter.numel()).view(parameter.shape)
            parameter.copy_(drawn.mul_(2 * bound).sub_(bound))
        elif ".lora_B." in name:
            parameter.zero_()


def _widened(model: Any) -> Any:
    """Everything that is trained is kept in fp32; compute casts it down."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PEFT asking transformers 5 for a property under the name it had in 4."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        yield


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
