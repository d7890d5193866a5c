"""What New can begin with: presets, recipes, bundled data, models and data files nearby.

Everything here only looks at names and small files; it is quick and works offline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftlab
from ftlab import paths, presets, yamltext
from ftlab.errors import ConfigError

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".jsonl.gz")
MOST = 60


@dataclass(frozen=True, slots=True)
class Base:
    """A preset or recipe."""

    name: str
    about: str
    mapping: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose config.json is on this machine."""

    name: str  # as model.name takes it
    place: str  # local, hub cache, starter
    config: dict[str, Any]
    complete: bool  # whether the weights are here too


def bases() -> list[Base]:
    """Presets, simplest first, then the recipes that lie in ./recipes or beside the library."""
    found = [Base(n, presets.description(n), presets.mapping(n)) for n in presets.names()]
    for path in _recipes():
        try:
            text = path.read_text(encoding="utf-8")
            mapping = yamltext.read(text, path.name).value
        except (OSError, ConfigError):
            continue
        if isinstance(mapping, dict):
            about = text.splitlines()[0].removeprefix("#").strip()
            found.append(Base(f"recipe {path.stem}", about, mapping))
    return found


def _recipes() -> list[Path]:
    beside = Path(ftlab.__file__).resolve().parents[2] / "recipes"
    for folder in (Path("recipes"), beside):
        found = sorted(folder.glob("*.yaml"))
        if found:
            return found[:MOST]
    return []


def starter_model() -> Path:
    """Where the bundled model is or will be."""
    from ftlab.starter.model import location

    return location()


def starter_folder() -> Path:
    """Where the bundled data is written."""
    from ftlab.starter import data

    return paths.cache_dir() / "starter" / f"orders-{data.SEED}"


def write_starter() -> Path:
    """Write the bundled data (a few hundred rows, milliseconds); its folder."""
    from ftlab.starter import data

    paths.make_cache_dir("starter")
    data.write(starter_folder())
    return starter_folder()


def starter_mapping() -> dict[str, Any]:
    """The config of the bundled task, as `ftrun demo` runs it."""
    from ftlab.starter.demo import SETTINGS

    mapping: dict[str, Any] = {section: dict(values) for section, values in SETTINGS.items()}
    mapping["model"] = {"name": str(starter_model())}
    mapping["data"]["source"] = str(starter_folder() / "train.jsonl")
    return mapping


def models() -> list[LocalModel]:
    """The bundled model, folders here with a config.json, and the hub's cache."""
    found: dict[str, LocalModel] = {}
    for place, name, folder in _model_folders():
        config = _json(folder / "config.json")
        if config and name not in found and config.get("architectures"):
            complete = any(folder.glob("*.safetensors"))
            found[name] = LocalModel(name, place, config, complete)
        if len(found) >= MOST:
            break
    starter = str(starter_model())
    if starter not in found:
        found = {starter: LocalModel(starter, "starter", STARTER_SHAPE, False), **found}
    return list(found.values())


# SmolLM2-135M-Instruct before it is fetched: enough of its config.json for the memory marks.
STARTER_SHAPE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip


def _model_folders() -> Iterator[tuple[str, str, Path]]:
    starter = starter_model()
    yield "starter", str(starter), starter
    for pattern in ("models/*", "*", "models/*/*"):
        for path in sorted(Path().glob(f"{pattern}/config.json"))[:MOST]:
            yield "local", f"./{path.parent}", path.parent
    for path in sorted(hub_cache().glob("models--*/snapshots/*/config.json"))[:MOST]:
        name = path.parents[2].name.removeprefix("models--").replace("--", "/")
        yield "hub cache", name, path.parent


def hub_cache() -> Path:
    """Where the hub's client keeps what it downloaded."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def data_files() -> list[str]:
    """Data files in this folder and in ./data, newest first."""
    found: list[Path] = []
    for folder in (Path(), Path("data")):
        try:
            found += [path for path in folder.iterdir() if is_data(path)]
        except OSError:
            continue
    newest = sorted(found, key=lambda path: -path.stat().st_mtime)[:MOST]
    return [str(path) for path in newest]


def is_data(path: Path) -> bool:
    """Whether a file can be read as data, by its name."""
    return path.name.endswith(DATA_SUFFIXES) and path.is_file() and not path.name.startswith(".")


def first_rows(source: str, count: int = 20) -> list[dict[str, Any]]:
    """The first rows of a local JSON or JSONL file, [] for anything else."""
    path = Path(source).expanduser()
    if not source.endswith((".jsonl", ".json")) or not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(1 << 18)
    except (OSError, UnicodeDecodeError):
        return []
    if head.lstrip().startswith("["):
        return _array(head, path)[:count]
    rows = []
    for line in head.splitlines()[:count]:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _array(head: str, path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > len(head):
        return []
    try:
        rows = json.loads(head)
    except ValueError:
        return []
    return [row for row in rows if isinstance(row, dict)]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
