"""Where a model comes from: a local folder, or a hub repository at one commit. No torch.

Small files (config, tokenizer, template) and weights are fetched apart, so that a plan can be made
without downloading weights. Only safetensors are ever taken: pickled weights are refused by name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.offline import is_offline, switch

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_SMALL = ["*.json", "*.model", "*.jinja", "*.txt", "*.tiktoken"]
_OTHER_FORMATS = ["original/*", "onnx/*", "openvino/*", "consolidated*", "*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Source:
    """A model's small files on this machine, and how to get its weights."""

    name: str  # as asked for
    folder: Path  # holds config.json and the tokenizer
    revision: str  # the hub's commit, "" for a local folder

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine rather than a hub repository."""
        return not self.revision


def resolve(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    trust_remote_code: bool = False,
) -> Source:
    """Find a model and have its config and tokenizer here; weights are not touched.

    Args:
        name: a local folder or a hub id such as "HuggingFaceTB/SmolLM2-135M-Instruct".
        revision: branch, tag or commit of a hub id.
        offline: use the cache only; HF_HUB_OFFLINE=1 does the same.
        trust_remote_code: fetch the repository's Python files too.

    Raises:
        EnvironmentUnfit: no such model, gated and not logged in, not cached and offline.
        TryLater: the network failed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Source(name, folder, "")
    if folder.exists() or not _HUB_ID.fullmatch(name):
        what = "is a file, not a folder" if folder.exists() else "is no folder and no hub id"
        raise EnvironmentUnfit(
            f"model {name!r} {what}; expected a folder with config.json and safetensors, "
            "or an id such as owner/model"
        )
    patterns = [*_SMALL, "*.py"] if trust_remote_code else _SMALL
    found = _download(name, revision, offline, allow=patterns, ignore=_OTHER_FORMATS)
    return Source(name, found, found.name)


def fetch_weights(source: Source, *, offline: bool = False) -> Path:
    """The folder with every safetensors file of the model; downloaded if it has to be.

    Raises EnvironmentUnfit where there are none, naming pickled ones if that is all there is.
    """
    if not source.local:
        wanted = _shards(source.folder) or [_SINGLE]
        _download(source.name, source.revision, offline, allow=wanted, ignore=None)
    shards = _shards(source.folder) or [_SINGLE]
    missing = [shard for shard in shards if not (source.folder / shard).is_file()]
    if missing:
        raise EnvironmentUnfit(_no_weights(source, missing))
    return source.folder


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json. Raises EnvironmentUnfit where it is missing or malformed."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnvironmentUnfit(f"no config.json in {folder}: not a model folder") from error
    except (OSError, ValueError) as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise EnvironmentUnfit(f"{path} holds {type(values).__name__}, expected an object")
    return values


def quantisation_of(config: Mapping[str, Any]) -> str:
    """How a checkpoint is quantised: "", "bitsandbytes-nf4", "bitsandbytes-int8", or its method."""
    settings = config.get("quantization_config")
    if not settings:
        return ""
    method = str(settings.get("quant_method") or "bitsandbytes")
    if method != "bitsandbytes":
        return method
    if settings.get("load_in_4bit"):
        return f"bitsandbytes-{settings.get('bnb_4bit_quant_type', 'fp4')}"
    return "bitsandbytes-int8"


def _shards(folder: Path) -> list[str]:
    """File names that the index lists; empty without an index."""
    path = folder / _INDEX
    if not path.is_file():
        return []
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentUnfit(f"{path} is not an index of weights: {error!r}") from error
    return sorted(set(files))


def _no_weights(source: Source, missing: list[str]) -> str:
    pickles = sorted(p.name for pattern in _PICKLES for p in source.folder.glob(pattern))
    shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    text = f"model {source.name!r} has no {shown} in {source.folder}"
    if pickles:
        text += f"; {', '.join(pickles[:3])} may hold pickled code and is never loaded"
    return f"{text}; only safetensors are loaded: convert it with save_pretrained"


def _download(
    name: str, revision: str | None, offline: bool, *, allow: list[str], ignore: list[str] | None
) -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    with _explained(name, revision, is_offline(offline)):
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=allow,
                ignore_patterns=ignore,
                local_files_only=is_offline(offline),
            )
        )


@contextmanager
def _explained(name: str, revision: str | None, offline: bool) -> Iterator[None]:
    """Turn the hub's errors into what happened and what to do."""
    from huggingface_hub import errors

    login = "log in with `hf auth login` (or set HF_TOKEN)"
    try:
        yield
    except errors.GatedRepoError as error:
        raise EnvironmentUnfit(
            f"model {name!r} is gated: accept its terms on its hub page, then {login}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EnvironmentUnfit(f"model {name!r} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise EnvironmentUnfit(
            f"model {name!r} does not exist on the hub, or is private: check the name; "
            f"for a private or gated model {login}"
        ) from error
    except errors.HFValidationError as error:
        raise EnvironmentUnfit(f"model {name!r} is no folder and no hub id: {error}") from error
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise EnvironmentUnfit(
                f"model {name!r} is not in the local cache and the hub is switched off "
                f"({switch() or 'HF_HUB_OFFLINE'}); unset it once to download, or give a local "
                "folder"
            ) from error
        raise TryLater(f"the hub cannot be reached for model {name!r}: {error}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise TryLater(f"the hub did not serve model {name!r}: {error}") from error
