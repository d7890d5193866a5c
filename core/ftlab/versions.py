"""Which software is installed, read from metadata and files: nothing is imported to find out."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch", "transformers", "peft", "trl", "bitsandbytes", "triton", "xformers", "accelerate",
    "datasets", "tokenizers", "safetensors", "numpy",
)  # fmt: skip


def installed(names: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """The version of each distribution, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def ours() -> str:
    """The version of ftlab."""
    import ftlab

    return str(getattr(ftlab, "__version__", "unknown"))


def python() -> str:
    """The running interpreter, such as "3.11.7"."""
    return platform.python_version()


def torch_cuda() -> str | None:
    """The CUDA version that the installed torch was built for; None for a CPU build or no torch."""
    folder = package_folder("torch")
    try:
        text = (folder / "version.py").read_text(encoding="utf-8") if folder else ""
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def package_folder(name: str) -> Path | None:
    """Where a top-level package lies, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def source_sha256(package: str) -> str | None:
    """sha256 over the names and contents of every .py file of a package; None when absent."""
    folder = package_folder(package)
    if folder is None:
        return None
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix().encode()
        state.update(len(name).to_bytes(8, "little") + name)
        state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()
