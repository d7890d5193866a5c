"""From a data source to token stores in the cache: the one way in which data is made ready.

A store's name is a hash of everything that decides its contents: the bytes of the source, the
settings, the tokenizer, the template, the libraries' versions and the source of this package. A
store is built beside and renamed into place, so that readers see it whole or not at all, and
several processes may build it at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ftlab import paths
from ftlab.data import build, chat, rows, source, split, summary
from ftlab.data.encode import Encoder
from ftlab.data.tokens import STORE_VERSION, StoreDamaged, TokenStore
from ftlab.errors import EnvironmentUnfit
from ftlab.facts import DataFacts, ModelFacts
from ftlab.schema import DataSection, RunConfig

_LIBRARIES = ("transformers", "tokenizers", "datasets", "jinja2")
_LEFTOVER_SECONDS = 24 * 3600


def prepare(
    config: RunConfig, model: ModelFacts, *, cache_dir: Path | None = None
) -> tuple[DataFacts, DataFacts | None]:
    """Make training and evaluation data ready for a config.

    Args:
        config: what a person asked for.
        model: where its tokenizer lies.
        cache_dir: where stores go; default the cache's folder `stores`.

    Returns:
        facts of the training data, and of the evaluation data where there is any.

    Raises:
        DataError: the source cannot be read as configured, or has nothing to train on.
        EnvironmentUnfit: no usable tokenizer, or the cache cannot be written.
        TryLater: the hub cannot be reached.
    """
    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer(model.path, model.revision or None, config.model.trust_remote_code)
    section, method = config.data, config.method.kind
    if section.eval_source is None and section.eval_fraction > 0:
        return prepare_split(section, tokenizer, method=method, cache_dir=cache_dir)
    train = prepare_store(section, tokenizer, method=method, cache_dir=cache_dir)
    if section.eval_source is None:
        return train, None
    return train, prepare_eval(section, tokenizer, method=method, cache_dir=cache_dir)


def prepare_store(
    section: DataSection,
    tokenizer: Any,
    *,
    method: str = "sft",
    cache_dir: Path | None = None,
) -> DataFacts:
    """Tokenise `data.source` whole, or find it in the cache.

    Args:
        section: what is read and how.
        tokenizer: Hugging Face tokenizer, or the folder or hub id of one.
        method: "sft" or "dpo".

    Raises as `prepare` does.
    """
    work = _Work.begin(section, tokenizer, method, cache_dir)
    located = source.locate(section.source, subset=section.subset, split=section.split)
    return work.facts(work.store(located), located)


def prepare_eval(
    section: DataSection,
    tokenizer: Any,
    *,
    method: str = "sft",
    cache_dir: Path | None = None,
) -> DataFacts:
    """Tokenise `data.eval_source`, written as SOURCE or SOURCE:SPLIT; see `source.eval_split`."""
    work = _Work.begin(section, tokenizer, method, cache_dir)
    assert section.eval_source is not None, "no evaluation source"
    place, chosen = source.eval_split(
        section.eval_source, subset=section.subset, split=section.split
    )
    located = source.locate(place, subset=section.subset, split=chosen, setting="data.eval_source")
    return work.facts(work.store(located), located)


def prepare_split(
    section: DataSection,
    tokenizer: Any,
    *,
    method: str = "sft",
    cache_dir: Path | None = None,
) -> tuple[DataFacts, DataFacts]:
    """Tokenise `data.source` and hold out `data.eval_fraction` of it; see `split`."""
    work = _Work.begin(section, tokenizer, method, cache_dir)
    located = source.locate(section.source, subset=section.subset, split=section.split)
    whole = work.store(located)
    stores = []
    for part in ("train", "eval"):
        key = _hash([whole.sha256, part, section.eval_fraction, _code_sha256()])

        def write(folder: Path, part: str = part) -> None:
            chosen = split.held_out(whole.keys, section.eval_fraction)
            meta = {k: v for k, v in whole.meta.items() if k not in ("shapes", "sha256", "version")}
            split.copy_rows(whole, chosen if part == "eval" else ~chosen, folder, **meta)

        stores.append(_open_or_build(work.cache_dir / key, write))
    train, evaluation = (work.facts(store, located) for store in stores)
    return train, evaluation


@dataclass(frozen=True, slots=True)
class _Work:
    """What all stores of one config share."""

    section: DataSection
    tokenizer: Any
    method: str
    template: chat.Template
    cache_dir: Path

    @classmethod
    def begin(
        cls, section: DataSection, tokenizer: Any, method: str, cache_dir: Path | None
    ) -> _Work:
        if isinstance(tokenizer, (str, Path)):
            from ftlab.models.load import load_tokenizer

            tokenizer = load_tokenizer(str(tokenizer))
        template = chat.resolve(tokenizer, section.chat_template)
        return cls(section, tokenizer, method, template, cache_dir or _default_cache())

    def store(self, located: source.Located) -> TokenStore:
        """The store of a source, from the cache or built now."""

        def write(folder: Path) -> None:
            table = rows.read(located, folder / "work")
            encoder = Encoder(self.tokenizer, self.template, self.section.train_on)
            build.build(table, encoder, folder, self.section, self.method)
            shutil.rmtree(folder / "work", ignore_errors=True)

        return _open_or_build(self.cache_dir / self._key(located), write)

    def facts(self, store: TokenStore, located: source.Located) -> DataFacts:
        """Everything a plan may know about a store."""
        meta = store.meta
        return DataFacts(
            source=located.describe(),
            format=meta["format"],
            format_reason=meta["format_reason"],
            store=str(store.path),
            skipped=dict(meta["skipped"]),
            duplicates=int(meta["duplicates"]),
            sample=summary.sample(self.tokenizer, store),
            samples=summary.samples(self.tokenizer, store),
            template=meta["template"],
            **summary.describe(store),
        )

    def _key(self, located: source.Located) -> str:
        section = self.section
        return _hash(
            [
                STORE_VERSION,
                _code_sha256(),
                {name: version(name) for name in _LIBRARIES},
                [located.kind, located.identity, located.split],
                [section.format, section.columns, section.train_on, self.method],
                [section.chat_template != "auto", self.template.text, self.template.origin],
                _tokenizer_sha256(self.tokenizer),
            ]
        )


def _open_or_build(folder: Path, write: Callable[[Path], None]) -> TokenStore:
    """The store in `folder`; a damaged one is built again, and that is said."""
    try:
        return TokenStore.open(folder)
    except StoreDamaged as error:
        if folder.exists():
            print(f"{error}; building it again", file=sys.stderr)
            _discard(folder)
    with _beside(folder) as building:
        write(building)
        with contextlib.suppress(OSError):  # another process was first: its store is the same
            building.rename(folder)
    return TokenStore.open(folder)


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that is gone at the end, whatever happens."""
    building = folder.parent / f".building-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        building.mkdir()
        yield building
    except OSError as error:
        raise EnvironmentUnfit(
            f"the data cache {folder.parent} cannot be written: {error.strerror or error}; free "
            "space there, or set FTLAB_CACHE to another folder"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Take a damaged store away in one step, so that no reader sees half of it."""
    away = folder.parent / f".building-{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Delete what builders left that were killed a day ago or earlier."""
    for path in parent.glob(".building-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _default_cache() -> Path:
    return paths.make_cache_dir("stores")


def _tokenizer_sha256(tokenizer: Any) -> str:
    """Everything that decides which tokens a text becomes."""
    special = {str(name): str(token) for name, token in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return _hash([backend.to_str() if backend else tokenizer.name_or_path, special])


def _code_sha256() -> str:
    """Hash of this package's files, so that changed code never reads what older code wrote."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("*.py"), *folder.glob("templates/*")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
