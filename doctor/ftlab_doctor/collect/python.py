"""The interpreter: where it came from, what it would import, and what shadows what."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from typing import Any

from ftlab_doctor.collect.reading import names, text, which

# Imports that training makes. One of these names lying where it should not is what shadows.
IMPORTS = (
    "torch", "torchvision", "triton", "numpy", "transformers", "tokenizers", "datasets", "peft", "trl",
    "accelerate", "bitsandbytes", "xformers", "flash_attn", "safetensors", "huggingface_hub", "kernels",
    "evaluate", "wandb", "tqdm", "yaml", "requests", "packaging", "filelock", "fsspec", "pyarrow", "pandas",
    "ftlab", "ftlab_kernels", "nvidia",
)  # fmt: skip
STANDARD = (
    "random", "types", "queue", "logging", "json", "copy", "code", "token", "tokenize", "select", "string",
    "statistics", "inspect", "typing", "enum", "email", "calendar", "secrets", "signal", "profile", "platform",
    "dataclasses", "math", "operator", "numbers", "io", "re", "abc", "ast", "site", "test", "utils",
)  # fmt: skip


def collect(facts: dict[str, Any]) -> None:
    """Fill `python`."""
    paths = sysconfig.get_paths()
    include = paths["include"]
    config = text(os.path.join(sys.prefix, "pyvenv.cfg"), 4096)
    search = [os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path]
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    launched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    facts["python"] = {
        "executable": sys.executable, "real": os.path.realpath(sys.executable), "prefix": sys.prefix,
        "base_prefix": sys.base_prefix, "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": sys.implementation.name, "platlib": paths["platlib"], "stdlib": paths["stdlib"],
        "user_site": site.getusersitepackages(), "user_site_on": bool(site.ENABLE_USER_SITE),
        "path": [entry for entry in search if entry != ours or ours in launched or "site-packages" in ours],
        "safe_path": bool(getattr(sys.flags, "safe_path", False)),
        "isolated": bool(sys.flags.isolated), "cwd": os.getcwd(),
        "header": os.path.exists(os.path.join(include, "Python.h")), "include": include,
        "venv": config if isinstance(config, str) else False,
        "conda": os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
        "soabi": sysconfig.get_config_var("SOABI") or "", "gil": _gil(), "pip": _pip(),
    }  # fmt: skip
    facts["python"]["names"] = _names(facts["python"])


def _gil() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _pip() -> dict[str, str] | bool:
    """The `pip` that a shell would start, and the interpreter in its first line."""
    path = which("pip")
    if not path:
        return False
    first = str(text(path, 512)).partition("\n")[0]
    interpreter = first[2:].strip().strip('"') if first.startswith("#!") else ""
    return {"path": path, "interpreter": interpreter}


def _names(python: dict[str, Any]) -> dict[str, list[str]]:
    """For each folder that imports are looked up in: which of the interesting names it holds."""
    interesting = {*IMPORTS, *STANDARD}
    standard = {python["stdlib"], os.path.join(python["stdlib"], "lib-dynload")}
    found = {}
    for folder in dict.fromkeys([python["cwd"], *python["path"]]):
        if folder in standard or folder.endswith(".zip"):
            continue
        inside = set(names(folder) or ())
        held = sorted(
            name for name in interesting
            if f"{name}.py" in inside or (name in inside and _imports(os.path.join(folder, name)))
        )  # fmt: skip
        if held:
            found[folder] = held
    return found


def _imports(folder: str) -> bool:
    """Whether `import` takes this folder: with __init__.py it wins over anything later."""
    return os.path.isfile(os.path.join(folder, "__init__.py"))
