"""The folder of runs: make a run's directory whole or not at all, and find the run that is meant.

Standard library only.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab import atomic
from ftlab.errors import ConfigError, FtlabError
from ftlab.run import Run, Status

if TYPE_CHECKING:
    from ftlab.plan import Plan

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_FOLDERS = ("data", "checkpoints", "control", "export")


def create(
    plan: Plan, root: str | os.PathLike[str], run_id: str | None, config_text: str | None
) -> Path:
    """Make and fill the directory of a planned run; see `Run.create`."""
    root = Path(os.path.abspath(root))
    check(root, run_id)
    with atomic.clear_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    beside = root / f".new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _fill(Run(beside), plan, config_text)
        return _appear(beside, root, plan, run_id)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check(root: str | os.PathLike[str], run_id: str | None) -> None:
    """Refuse a name or folder that `create` would refuse, before long work is done for it.

    Raises:
        ConfigError: `run_id` is no name for a folder, or taken.
        EnvironmentUnfit: `root` is no folder, or cannot be written.
    """
    root = Path(os.path.abspath(root))
    if run_id is not None and not is_name(run_id):
        raise ConfigError(
            f"run name {run_id!r} must be letters, digits, '.', '_' or '-', at most 100, "
            f"beginning with a letter or digit"
        )
    if run_id is not None and (root / run_id).exists():
        raise ConfigError(f"run {run_id} exists in {root}; choose another --name")
    there = next(folder for folder in (root, *root.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise atomic.storage_error(NotADirectoryError(errno.ENOTDIR, ""), root)
    if not os.access(there, os.W_OK | os.X_OK):
        raise atomic.storage_error(PermissionError(errno.EACCES, ""), root)


def is_name(text: object) -> bool:
    """Whether a text can name a run."""
    return isinstance(text, str) and _ID.match(text) is not None


def make_folders(folder: Path) -> None:
    """Make the directory of a run and the folders every run has."""
    with atomic.clear_errors(folder):
        folder.mkdir()
        for name in _FOLDERS:
            (folder / name).mkdir()


def find(id_or_path: str | os.PathLike[str], root: str | os.PathLike[str]) -> Path:
    """The directory of the run that is meant; see `Run.find`."""
    text = os.fspath(id_or_path)
    for candidate in (Path(root) / text, Path(text)):
        if text not in ("", ".", "..") and (candidate / "plan.json").is_file():
            return candidate
    return Path(root) / _choose(text, Path(root))


def names(root: str | os.PathLike[str]) -> list[str]:
    """The names of every complete run directory in `root`; none when there is no such folder."""
    try:
        found = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise atomic.storage_error(error, root) from error
    return [n for n in found if n[0] != "." and (Path(root) / n / "plan.json").is_file()]


def make_id(method: str, model: str, when: float | None = None) -> str:
    """A short name that sorts by time within a model: sft-smollm2-135m-1124-0703-ab12."""
    words = re.sub(r"[^a-z0-9.]+", "-", Path(model).name.lower()).strip("-.")
    short = re.sub(r"-(instruct|chat|base|hf|it)(?=-|$)", "", words)[:24].strip("-.") or "model"
    moment = time.strftime("%m%d-%H%M", time.localtime(when))
    return f"{method}-{short}-{moment}-{secrets.token_hex(2)}"


def _fill(run: Run, plan: Plan, text: str | None) -> None:
    from ftlab import configtext
    from ftlab import plan as plans

    make_folders(run.path)
    atomic.write_text(run.config_path, text if text is not None else configtext.dump(plan.config))
    atomic.write_json(run.plan_path, plans.to_json(plan))
    now = time.time()
    run.write_status(Status(steps=plan.steps, created=now, updated=now))


def _appear(beside: Path, root: Path, plan: Plan, run_id: str | None) -> Path:
    """Give the finished directory its name; two runs of one second get different ones."""
    for _ in range(100):
        target = root / (run_id or make_id(plan.config.method.kind, plan.config.model.name))
        if not target.exists() and appear(beside, target):
            return target
        if run_id:
            raise ConfigError(f"run {run_id} exists in {root}; choose another --name")
    raise FtlabError(f"no free run name in {root}")


def appear(beside: Path, target: Path) -> bool:
    """Give a finished directory its name; False when another launcher took the name first."""
    try:
        beside.rename(target)
    except OSError as error:
        if target.exists():
            return False
        raise atomic.storage_error(error, target) from error
    atomic.sync_folder(target.parent)
    return True


def _sweep(root: Path) -> None:
    """Remove what a launcher that was killed while creating a run left behind an hour ago."""
    with contextlib.suppress(OSError):
        for leftover in root.glob(".new-*"):
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover, ignore_errors=True)


def _choose(text: str, root: Path) -> str:
    known = names(root)
    if text == "last" and known:
        return Run.all(root)[-1].id
    for fits in (str.startswith, str.__contains__):
        matches = sorted(name for name in known if text and fits(name, text))
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ConfigError(f"{text!r} fits several runs in {root}: {', '.join(matches[:8])}")
    near = difflib.get_close_matches(text, known, 1, 0.5)
    hint = f"; the nearest is {near[0]}" if near else ""
    raise ConfigError(f"no run {text!r} in {root}{hint}; `ftrun runs` lists them")
