"""Facts about a model from its config, tokenizer files and safetensors headers; no weights.

A local folder and the cache of a hub model are read directly; a hub model that is not downloaded
yet is described by the hub, so that a plan never waits for weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.facts import ModelFacts
from ftlab.models.families import find, spec_from_config
from ftlab.models.source import Source, quantisation_of, read_config, resolve
from ftlab.offline import is_offline, switch
from ftlab.probing import hashes, headers
from ftlab.schema import ModelSection

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Weights:
    """What is known of the weights without loading them."""

    dtype: str
    stored_bytes: int
    sha256: str  # over the files' names and sha256, "" when unknown


def model_facts(section: ModelSection, *, cache: bool = True) -> ModelFacts:
    """Describe the model of a config.

    Raises:
        EnvironmentUnfit: it cannot be had, is of an unknown architecture, has no safetensors, or
            a file is damaged.
    """
    source = resolve(section.name, section.revision, trust_remote_code=section.trust_remote_code)
    config = read_config(source.folder)
    spec = spec_from_config(config, section.rope_scaling)
    weights = _weights(source, cache)
    template = chat_template(source.folder)
    digests = {
        "config": hashes.file_sha256(source.folder / "config.json", cache=cache),
        "tokenizer": hashes.files_sha256(_present(source.folder, TOKENIZER_FILES), cache=cache),
    }
    if template:
        digests["template"] = hashes.text_sha256(template)
    if weights.sha256:
        digests["weights"] = weights.sha256
    return ModelFacts(
        name=section.name,
        path=str(source.folder.absolute()) if source.local else source.name,
        revision=source.revision,
        architecture=spec.architecture,
        family=find(config).name,
        spec=spec.to_dict(),
        parameters=spec.parameters(),
        linear_shapes=spec.linear_shapes(),
        embedding_parameters=spec.embedding_parameters(),
        stored_dtype=weights.dtype,
        stored_bytes=weights.stored_bytes,
        quantization=quantisation_of(config),
        max_positions=spec.max_positions,
        has_chat_template=bool(template),
        hashes=digests,
    )


def chat_template(folder: Path) -> str:
    """The tokenizer's chat template, "" when it has none."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if name.endswith(".jinja"):
            return text
        try:
            value = json.loads(text).get("chat_template")
        except (ValueError, AttributeError):
            raise EnvironmentUnfit(f"{path} is not a JSON object; fetch it again") from None
        if value:
            return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return ""


def _present(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _weights(source: Source, cache: bool) -> Weights:
    """From the files where all are here, else from the hub."""
    names = shard_names(source.folder)
    missing = [name for name in names if not (source.folder / name).is_file()]
    if not missing:
        found = [headers.read_header(source.folder / name) for name in names]
        dtype, stored = headers.summary(found)
        files = [source.folder / name for name in names]
        return Weights(dtype, stored, hashes.files_sha256(files, cache=cache))
    if source.local or is_offline():
        present = (path.name for path in source.folder.iterdir())
        raise EnvironmentUnfit(_missing(source, missing, present))
    return _from_hub(source, names)


def shard_names(folder: Path) -> list[str]:
    """Names of the safetensors files of a checkpoint, from its index or by convention."""
    path = folder / INDEX
    if not path.is_file():
        return [SINGLE]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise EnvironmentUnfit(f"{path} is not an index of weights: {error!r}") from None
    if not names or any("/" in name or name.startswith(".") for name in names):
        raise EnvironmentUnfit(f"{path} lists no usable file names")
    return names


def _missing(source: Source, missing: list[str], present: Iterable[str]) -> str:
    pickles = sorted(name for name in present if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    text = f"model {source.name!r} has no {shown} in {source.folder}"
    if pickles:
        text += (
            f"; {', '.join(pickles[:3])} may hold pickled code and is never loaded: convert it "
            "with save_pretrained"
        )
    elif not source.local and is_offline():
        text += f"; {switch()} is set, unset it once to download the weights"
    return text


def _from_hub(source: Source, names: list[str]) -> Weights:
    """Sizes, dtypes and sha256 as the hub states them; nothing is downloaded."""
    from huggingface_hub import HfApi, get_safetensors_metadata

    try:
        info = HfApi().model_info(source.name, revision=source.revision, files_metadata=True)
        sizes = {item.rfilename: item for item in info.siblings or ()}
        absent = sorted(set(names) - set(sizes))
        metadata = (
            None if absent else get_safetensors_metadata(source.name, revision=source.revision)
        )
    except Exception as error:  # the config came through, so this is the network or the hub
        reason = str(error).strip().partition("\n")[0]
        raise TryLater(f"the hub did not describe model {source.name!r}: {reason}") from error
    if metadata is None:
        raise EnvironmentUnfit(_missing(source, absent, sizes))
    digests = {name: _lfs_sha256(sizes[name]) for name in names}
    counts: dict[str, int] = dict(metadata.parameter_count)
    dtype = max(counts, key=lambda name: counts[name]) if counts else ""
    return Weights(
        headers.NAMES.get(dtype, dtype.lower()),
        sum(int(sizes[name].size or 0) for name in names),
        hashes.named_sha256(digests) if all(digests.values()) else "",
    )


def _lfs_sha256(sibling: Any) -> str:
    return str(getattr(getattr(sibling, "lfs", None), "sha256", "") or "")
