"""Where rows come from: find a data source, say what identifies it, and refuse what cannot be used.

A source is a file (JSONL, JSON, CSV, TSV, Parquet, Arrow, text, any of them gzipped), a pattern of
such files, a folder of them, a folder written by `save_to_disk`, or a data set id on the hub.
Nothing here runs code of a data set or reads pickle. `rows` reads what `locate` has found.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.data import hub
from ftlab.errors import DataError, Problem

KINDS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
}
_GZIPPED = {"json", "csv", "text"}
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SPLIT_NAME = re.compile(r"\s*(\w+(?:[.-]\w+)*)\s*(\[[^\]]*\])?\s*")
_WITH_SPLIT = re.compile(r"(.+?):(\w[\w.\[\]:%+-]*)")
_EVAL_SPLITS = ("validation", "valid", "val", "dev", "eval", "evaluation", "test")


@dataclass(frozen=True, slots=True)
class Located:
    """A source that exists, with what decides its rows.

    Attributes:
        name: as a person wrote it.
        kind: json, csv, parquet, arrow, text, saved (by `save_to_disk`) or builder (hub, or a
            folder with a data card).
        split: such as "train" or "train[:1000]".
        identity: sha256 of the bytes (hub: of id, configuration and commit); not of any path.
        files: of each split, for the file kinds.
        folder: of kind saved.
        builder: `datasets` builder of kind builder.
        revision: commit of a hub data set.
    """

    name: str
    kind: str
    split: str
    identity: str
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    builder: Any = None
    revision: str = ""

    def describe(self) -> str:
        """Name, split and commit, for people."""
        commit = f" at {self.revision[:12]}" if self.revision else ""
        return f"{self.name} ({self.split}){commit}"


def locate(
    source: str, *, subset: str | None = None, split: str = "train", setting: str = "data.source"
) -> Located:
    """Find a source without reading its rows (files are read once for their sha256).

    Args:
        source: path, pattern or hub id.
        subset: configuration of a hub data set.
        split: split, slices allowed.
        setting: config path that errors name.

    Raises:
        DataError: nothing there, empty, of an unknown kind, no such split or subset, or gated.
        TryLater: the hub cannot be reached now.
    """
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _locate_folder(source, path, subset, split)
        files = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
        if files:
            return _locate_files(source, files, subset, split)
    except OSError as error:
        raise _problem(setting, f"{source} cannot be read: {error.strerror or error}") from error
    except DataError as error:
        problems = [Problem(p.path or setting, p.message, p.hint) for p in error.problems]
        raise DataError(problems) from error
    if not _HUB_ID.fullmatch(source) or _extension(path)[0] in KINDS:
        raise _problem(setting, *_missing(source, path))
    builder = hub.open_builder(source, subset, setting, _nearest(path))
    return _locate_builder(source, builder, split, revision=str(builder.hash or ""))


def eval_split(source: str, *, subset: str | None, split: str) -> tuple[str, str]:
    """Source and split of `data.eval_source`, written as SOURCE or SOURCE:SPLIT.

    Without a split, the first of validation, dev, eval and test that exists, else `split`.
    """
    whole = Path(source).expanduser()
    named = _WITH_SPLIT.fullmatch(source)
    if named and not whole.exists():
        return named.group(1), named.group(2)
    names = split_names(source, subset=subset)
    found = next((name for name in _EVAL_SPLITS if name in names), None)
    if found is None:
        found = split if set(base_splits(split)) <= set(names) else names[0]
    return source, found


def split_names(source: str, *, subset: str | None = None) -> list[str]:
    """The splits a source has; ["train"] for a single file."""
    path = Path(source).expanduser()
    if path.is_dir():
        saved = _saved_splits(path)
        if saved is not None:
            return list(saved)
        if not _has_card(path, subset):
            return list(_by_split(path, _data_files(path)))
    elif path.is_file() or glob.glob(str(path)) or not _HUB_ID.fullmatch(source):
        return ["train"]
    return hub.split_names(hub.open_builder(source, subset, "data.eval_source", ""))


def base_splits(split: str) -> list[str]:
    """Names in a split expression: "train[:10%]+test" has train and test.

    Raises DataError where it is no split expression.
    """
    parts = [_SPLIT_NAME.fullmatch(part) for part in split.split("+")]
    if not all(parts):
        raise _problem(
            "data.split",
            f"got {split!r}, expected a split such as train, train[:1000] or train[10%:20%]",
        )
    return [part.group(1) for part in parts if part]


def check_split(split: str, names: Sequence[str], source: str) -> None:
    """Raise DataError, listing the splits there are, when one is unknown."""
    for name in base_splits(split):
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            meant = f"did you mean {near[0]}" if near else f"set data.split to {names[0]}"
            raise _problem(
                "data.split", f"{source} has no split {name!r}; it has {', '.join(names)}", meant
            )


def _locate_files(source: str, files: list[Path], subset: str | None, split: str) -> Located:
    if subset:
        raise DataError(f"data.subset {subset!r} is for hub data sets; {source} is a file")
    check_split(split, ["train"], source)
    kind = _common_kind(files)
    return Located(source, kind, split, _hash_files(kind, {"train": files}), tuple(files))


def _locate_folder(source: str, path: Path, subset: str | None, split: str) -> Located:
    saved = _saved_splits(path)
    if saved is not None:
        check_split(split, list(saved), source)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        identity = _hash_files("saved", {"": files}, names=True)
        return Located(source, "saved", split, identity, folder=path)
    if _has_card(path, subset):
        builder = hub.open_builder(str(path), subset, "data.source", "")
        return _locate_builder(source, builder, split, revision="")
    splits = _by_split(path, _data_files(path))
    check_split(split, list(splits), source)
    kind = _common_kind([file for name in base_splits(split) for file in splits[name]])
    chosen = {name: splits[name] for name in dict.fromkeys(base_splits(split))}
    if len(chosen) > 1:
        raise DataError(f"data.split {split!r}: a folder of files gives one split at a time")
    return Located(source, kind, split, _hash_files(kind, chosen), tuple(*chosen.values()))


def _locate_builder(source: str, builder: Any, split: str, *, revision: str) -> Located:
    names = hub.split_names(builder)
    check_split(split, names, source)
    if revision:
        parts = [source, builder.config.name, revision]
        identity = hashlib.sha256("\n".join(["hub", *parts]).encode()).hexdigest()
    else:
        files = {name: [Path(file) for file in hub.files(builder, name)] for name in names}
        identity = _hash_files("builder", files)
    return Located(source, "builder", split, identity, builder=builder, revision=revision)


def _extension(path: Path) -> tuple[str, bool]:
    """Extension that decides the kind, and whether the file is gzipped."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        return (suffixes[-2] if len(suffixes) > 1 else "", True)
    return (suffixes[-1] if suffixes else "", False)


def _common_kind(files: Sequence[Path]) -> str:
    kinds: dict[str, Path] = {}
    for file in files:
        extension, gzipped = _extension(file)
        kind = KINDS.get(extension, "")
        if not kind or (gzipped and kind not in _GZIPPED):
            raise DataError(_unknown_kind(file, extension))
        if not file.stat().st_size:
            raise DataError(f"{file} is empty")
        kinds.setdefault(kind, file)
    if len(kinds) > 1:
        found = ", ".join(f"{file.name} ({kind})" for kind, file in kinds.items())
        raise DataError(f"files of one data set must be of one kind; found {found}")
    return next(iter(kinds))


def _unknown_kind(file: Path, extension: str) -> str:
    allowed = "JSONL, JSON, CSV, TSV, Parquet, Arrow or text; the first four and text also as .gz"
    if extension in (".pkl", ".pickle", ".pt", ".bin"):
        return f"{file}: pickle can run code and is never loaded; convert it to {allowed}"
    if extension == ".py":
        return f"{file}: data set scripts are never run; give their data as {allowed}"
    return f"{file}: unknown kind {extension or 'without extension'!r}; expected {allowed}"


def _data_files(folder: Path) -> list[Path]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and _extension(file)[0] in KINDS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.stem.upper() not in ("README", "LICENSE")
    ]
    if not files:
        raise DataError(
            f"{folder} has no data files; expected {', '.join(sorted(KINDS))} "
            "or a data set written by save_to_disk"
        )
    return files


def _by_split(root: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that a word in the name, or in a folder's name below `root`, tells."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        parts = reversed(file.relative_to(root).parts)
        words = [re.findall(r"[a-z]+", part.lower()) for part in parts]
        names = (
            split
            for part in words
            for split, known in _SPLIT_WORDS.items()
            if any(word in known for word in part)
        )
        splits.setdefault(next(names, ""), []).append(file)
    if "" in splits:  # files without a split word are training data, as on the hub
        splits["train"] = sorted([*splits.get("train", []), *splits.pop("")])
    return dict(sorted(splits.items(), key=lambda item: list(_SPLIT_WORDS).index(item[0])))


def _saved_splits(folder: Path) -> list[str] | None:
    """Splits of a folder written by `save_to_disk`, None for any other folder."""
    if (folder / "dataset_dict.json").is_file():
        try:
            return list(json.loads((folder / "dataset_dict.json").read_text())["splits"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder / 'dataset_dict.json'} is damaged: {error!r}") from error
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return ["train"]
    return None


def _has_card(folder: Path, subset: str | None) -> bool:
    """Whether a folder is a hub data set on disk, with configurations in its README."""
    card = folder / "README.md"
    return bool(subset) or (card.is_file() and "\nconfigs:" in card.read_text(errors="replace"))


def _hash_files(kind: str, splits: Mapping[str, Sequence[Path]], names: bool = False) -> str:
    """sha256 over kind and contents; file names count only where they decide the rows."""
    digest = hashlib.sha256(kind.encode())
    for split, files in splits.items():
        for file in files:
            one = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    one.update(block)
            label = f"\n{split} {file.name if names else _extension(file)} "
            digest.update(label.encode() + one.digest())
    return digest.hexdigest()


def _missing(source: str, path: Path) -> tuple[str, str]:
    near = _nearest(path)
    return f"there is no file or folder {source}", near and f"did you mean {near}"


def _nearest(path: Path) -> str:
    """The most similar name in the folder of a path that does not exist, "" without one."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1, cutoff=0.5)
    return str(path.parent / near[0]) if near else ""


def _problem(setting: str, message: str, hint: str = "") -> DataError:
    return DataError([Problem(setting, message, hint)])
