"""Data sets on the hub, or a copy of one on disk, through `datasets`; errors say what to do.

`datasets` is imported on first use. Only builders that read plain files are allowed, download
counts are not reported, and HF_HUB_OFFLINE is `datasets`' own to respect.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from ftlab.errors import DataError, EnvironmentUnfit, Problem, TryLater
from ftlab.offline import is_offline, switch

BUILDERS = ("json", "csv", "parquet", "text", "arrow", "cache")


@contextlib.contextmanager
def quiet_datasets() -> Iterator[Any]:
    """The `datasets` module, silent: no telemetry, no log lines, bars only on a terminal."""
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def open_builder(source: str, subset: str | None, setting: str, nearest: str) -> Any:
    """The `datasets` builder of a hub id or folder, with its commit fixed.

    Args:
        source: hub id, or folder with a data card.
        subset: configuration name.
        setting: config path that errors name.
        nearest: similar local file, for the hint; "" without one.

    Raises:
        DataError: it does not exist, is gated, has no such subset, or is of a refused kind.
        EnvironmentUnfit: offline and not in the cache.
        TryLater: the hub cannot be reached.
    """
    with quiet_datasets() as datasets:
        try:
            builder = datasets.load_dataset_builder(source, name=subset)
        except Exception as error:
            raise _explain(error, source, subset, setting, nearest) from error
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in BUILDERS:
        raise DataError(
            [Problem(setting, f"{source} is read by {kind!r}; allowed: {', '.join(BUILDERS)}")]
        )
    return builder


def split_names(builder: Any) -> list[str]:
    """Splits of a builder, before anything is downloaded."""
    if builder.info.splits:
        return list(builder.info.splits)
    return [str(name) for name in builder.config.data_files or {}] or ["train"]


def files(builder: Any, split: str) -> list[str]:
    """Data files of a split."""
    return [str(file) for file in (builder.config.data_files or {}).get(split, [])]


def _explain(
    error: Exception, source: str, subset: str | None, setting: str, nearest: str
) -> Exception:
    """Our error for what `load_dataset_builder` raised."""
    text = str(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    if "gated" in text:
        return _data(
            setting,
            f"{source} is gated on the hub",
            f"accept its terms at https://huggingface.co/datasets/{source}, then run "
            "`hf auth login`",
        )
    if is_offline() and names & {"ConnectionError", "OfflineModeIsEnabled", "FileNotFoundError"}:
        return EnvironmentUnfit(
            f"{setting}: {source} is no local file or folder and not in the data set cache, and "
            f"{switch()} forbids to look on the hub{_meant(nearest)}"
        )
    if "ConnectionError" in names or "Timeout" in type(error).__name__:
        return TryLater(f"{setting}: the hub cannot be reached for {source}: {text}")
    if "DatasetNotFoundError" in names:
        return _data(
            setting,
            f"there is no local file or folder {source}, and no such data set on the hub that "
            "you may read",
            f"for a private one run `hf auth login`{_meant(nearest)}",
        )
    if "scripts are no longer supported" in text:
        return _data(
            setting,
            f"{source} is a data set script; scripts are never run",
            "give the data as JSONL, CSV or Parquet",
        )
    if "onfig" in text and isinstance(error, ValueError):
        return _subset(source, subset, text)
    return _data(setting, f"{source} cannot be opened: {type(error).__name__}: {text}")


def _subset(source: str, subset: str | None, text: str) -> DataError:
    """The error for a missing or unknown configuration; `text` ends with a list of those known."""
    listed = re.findall(r"\[(['\"].*?)\]", text)
    known = ", ".join(re.findall(r"['\"]([^'\"]+)['\"]", listed[-1])) if listed else text
    cached = " in the cache" if "cache" in text else ""
    if subset is None:
        return _data("data.subset", f"{source} has several: {known}", "set data.subset to one")
    return _data("data.subset", f"{source} has no {subset!r}{cached}; it has {known}")


def _meant(nearest: str) -> str:
    return f"; did you mean {nearest}" if nearest else ""


def _data(setting: str, message: str, hint: str = "") -> DataError:
    return DataError([Problem(setting, message, hint)])
