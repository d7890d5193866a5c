"""The rules of the house, proven: folders, directions of imports, light modules, no pickle."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "kernels": "ftlab_kernels",
    "core": "ftlab",
    "doctor": "ftlab_doctor",
    "tui": "ftlab_tui",
}
OURS = set(FOLDERS.values())
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAY_IMPORT = {  # of ours
    "ftlab_kernels": set(),
    "ftlab": {"ftlab_kernels"},
    "ftlab_doctor": set(),
    "ftlab_tui": {"ftlab", "ftlab_doctor"},
}
HEAVY = {
    "accelerate", "bitsandbytes", "datasets", "docker", "gguf", "huggingface_hub", "numpy",
    "pandas", "peft", "pyarrow", "safetensors", "textual", "tokenizers", "torch", "transformers",
    "triton", "trl",
}  # fmt: skip
LIGHT = (
    "atomic", "child", "cli", "config", "configtext", "control", "docs", "errors", "estimate",
    "events", "facts", "folders", "identity", "inactive", "interrupts", "jsonschema", "ledger",
    "lock", "manifest", "notes", "offline", "paths", "pins", "plan", "presets", "probe", "process",
    "progress", "registry", "rules", "run", "schema", "setting", "summary", "trash", "values",
    "versions", "yamltext", "launch", "launch.docker_spec", "launch.local", "reproduce.bundle",
    "reproduce.checklist", "reproduce.checklist_text", "reproduce.compare", "reproduce.interval",
    "reproduce.noise", "reproduce.rerun", "reproduce.stats", "reproduce.sweep", "reproduce.text",
    "reproduce.trace", "reproduce.unbundle", "reproduce.verdict",
    "models.families", "models.spec", "starter.data", "starter.demo", "starter.model",
)  # fmt: skip
# Tests of several modules at once; every other test file mirrors one source file.
WHOLE = {
    "core/test_architecture.py": "the rules of the house",
    "core/test_container.py": "Dockerfile, container/, compose.yaml and conda/",
    "kernels/test_bench.py": "bench/tune.py and bench/kernels",
    "core/test_bench.py": "bench/compare.py",
    "core/test_house.py": "locks, recipes and text of the repository",
    "tui/test_snapshots.py": "every screen of the app",
}


def _package(path: Path) -> str:
    return FOLDERS[path.relative_to(ROOT).parts[0]]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of what is imported."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _top(name: str) -> str:
    return name.split(".")[0]


def _fresh(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter that sees our packages."""
    path = os.pathsep.join(str(ROOT / folder) for folder in FOLDERS)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # what is measured here is what we import
    environment.pop("COVERAGE_PROCESS_START", None)
    environment.update(options.pop("env", {}))  # type: ignore[call-overload]
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment,
        check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def test_sources_were_found() -> None:
    assert len(SOURCES) > 60
    assert {_package(path) for path in SOURCES} == OURS


@pytest.mark.parametrize("folder", [*FOLDERS, "tests"])
def test_no_bare_package(folder: str) -> None:
    """A package called `kernels` breaks transformers; none of these folders is a package."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("package", FOLDERS.values())
def test_every_package_is_typed(package: str) -> None:
    folder = next(name for name, known in FOLDERS.items() if known == package)
    assert (ROOT / folder / package / "py.typed").is_file()
    assert [path.name for path in (ROOT / folder).iterdir() if path.is_dir()] == [package]


def test_kernels_is_never_ours() -> None:
    done = _fresh(
        "import importlib.util as u\nprint([u.find_spec(n) for n in ('kernels', 'core', 'tui')])",
        cwd=ROOT,
    )
    assert done.stdout == "[None, None, None]\n", done.stderr


def test_transformers_works_from_the_repository_root() -> None:
    """Even with the root itself on the path, as `python script.py` puts it there."""
    code = "import sys; sys.path.insert(0, '.')\nfrom transformers import LlamaForCausalLM"
    done = _fresh(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_directions_of_imports(path: Path) -> None:
    ours = {_top(name) for name in _imports(ast.walk(_tree(path)))} & OURS
    assert ours <= MAY_IMPORT[_package(path)] | {_package(path)}


def test_the_doctor_needs_nothing_installed() -> None:
    for path in (path for path in SOURCES if _package(path) == "ftlab_doctor"):
        for name in _imports(iter(_tree(path).body)):
            assert _top(name) in sys.stdlib_module_names | {"ftlab_doctor"}, (path, name)


def test_the_kernels_need_torch_and_triton_alone() -> None:
    allowed = sys.stdlib_module_names | {"ftlab_kernels", "numpy", "torch", "triton"}
    for path in (path for path in SOURCES if _package(path) == "ftlab_kernels"):
        for name in _imports(ast.walk(_tree(path))):
            assert _top(name) in allowed, (path, name)


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    """By their text: at module level they name no heavy package."""
    module = ROOT / "core/ftlab" / name.replace(".", "/")
    path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    assert not {_top(imported) for imported in _imports(iter(_tree(path).body))} & HEAVY


def test_light_modules_load_nothing_heavy() -> None:
    """By experiment, each alone: with it, no heavy package is in sys.modules."""
    names = [f"ftlab.{name}" for name in LIGHT]
    code = (
        "import importlib, sys\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    found = [h for h in heavy if h in sys.modules]\n"
        "    if found: sys.exit(f'{name} loads {found}')\n"
    )
    done = _fresh(code)
    assert done.returncode == 0, done.stderr


def test_every_command_is_light() -> None:
    from ftlab.cli import COMMANDS

    names = [f"ftlab.commands.{name}" for name in COMMANDS if name != "demo"]
    code = (
        "import importlib, sys\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
        f"sys.exit(repr(set({sorted(HEAVY)!r}) & set(sys.modules)).replace('set()', ''))"
    )
    done = _fresh(code)
    assert done.stderr.strip() == ""


@pytest.mark.quiet
def test_help_is_quick(slowness: float) -> None:
    """Under 0.15 s. The best of several runs: a busy machine only ever makes it slower."""
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        done = _fresh("import sys; from ftlab.cli import main; sys.exit(main(['--help']))")
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "train" in done.stdout
    assert min(seconds) < 0.15 * slowness


def test_no_pickle_and_no_remote_code() -> None:
    """No module or call that would run what a file says; safetensors, JSON and .npy only."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {"torch.load", "torch.save", "pd.read_pickle", "pandas.read_pickle", "yaml.load"}
    allowing = {"allow_pickle", "trust_remote_code", "weights_only"}
    for path in SOURCES:
        for node in ast.walk(_tree(path)):
            assert not {_top(name) for name in _imports(iter([node]))} & modules, path
            if not isinstance(node, ast.Call):
                continue
            assert ast.unparse(node.func) not in calls, (path, node.lineno)
            for keyword in node.keywords:
                value = keyword.value
                if keyword.arg in allowing and isinstance(value, ast.Constant):
                    assert value.value is False, (path, node.lineno)


def test_nothing_of_ours_talks_to_a_network() -> None:
    """Downloads are made by the hub's client and by pip; we open no connection ourselves.

    `ftui serve` is no client: it listens, on localhost alone.
    """
    clients = {"aiohttp", "http", "httpx", "requests", "smtplib", "ssl", "urllib", "urllib3"}
    serving = ROOT / "tui/ftlab_tui/serving.py"
    for path in SOURCES:
        tree = _tree(path)
        names = {_top(name) for name in _imports(ast.walk(tree))}
        assert not names & clients - ({"aiohttp", "urllib"} if path == serving else set()), path
        if "socket" in names:  # the host's name is all that is asked of it
            used = {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "socket"
            }
            assert used == {"gethostname"}, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 400
    assert not lines or lines[0].startswith('"""'), "the first line says the file's purpose"


def test_tests_mirror_sources() -> None:
    """tests/core/a/test_b.py tests core/ftlab/a/b.py."""
    found = [path for path in TESTS if path.name.startswith("test_")]
    assert len(found) > 40
    for path in found:
        relative = path.relative_to(ROOT / "tests")
        if str(relative) in WHOLE:
            continue
        folder, *middle = relative.parent.parts
        stem = path.stem.removeprefix("test_")
        module = ROOT.joinpath(folder, FOLDERS[folder], *middle, stem)
        assert module.with_suffix(".py").is_file() or module.is_dir(), f"{relative} mirrors nothing"


def test_every_light_module_is_listed() -> None:
    """A new module beside cli.py is either light, and proven to be, or a package of its own."""
    beside = {path.stem for path in (ROOT / "core/ftlab").glob("*.py")}
    assert beside - {"__init__", "__main__"} <= set(LIGHT)
    for name in LIGHT:
        assert importlib.util.find_spec(f"ftlab.{name}"), name
