"""What the kernels' tests share: one process that interprets them, poisoned memory, the device.

Triton decides when it is first imported whether kernels are interpreted, and other tests may have
imported it by then. So a test that uses the fixture `interpret` runs under TRITON_INTERPRET=1 in a
fork of one process that has loaded torch and triton (`interpreting`), one fork for all chosen tests
of a file, and its result is taken from there.
Where a CUDA device is present the same tests run in this process, compiled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from aot import compile_for`

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = pytest.StashKey[bool]()
RESULTS = pytest.StashKey[dict[str, dict[str, tuple[str, str]]]]()
SERVER = pytest.StashKey[subprocess.Popen[str]]()


def _cuda(config: pytest.Config) -> bool:
    if CUDA not in config.stash:
        import torch

        config.stash[CUDA] = torch.cuda.is_available()
    return config.stash[CUDA]


@pytest.fixture
def interpret(device: str) -> Iterator[None]:
    """The test runs every kernel: interpreted on the CPU, compiled where there is a GPU."""
    from ftlab_kernels import dispatch

    if device == "cpu" and not INTERPRETING:
        yield  # the child runs it
        return
    import numpy

    with (
        dispatch.using("require"),
        numpy.errstate(all="ignore"),  # infinities and NaN as on a GPU
        warnings.catch_warnings(),
    ):
        # triton's interpreter itself makes integers of arrays
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Where the tensors of a kernel's test lie."""
    return "cuda" if not INTERPRETING and _cuda(request.config) else "cpu"


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN (integers: a pattern): what a kernel leaves unwritten shows."""
    import torch

    def poison(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            tensor = make(*args, **kwargs)
            if tensor.dtype.is_floating_point:
                return tensor.fill_(float("nan"))
            return tensor.fill_(90) if tensor.dtype is not torch.bool else tensor

        return made

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In an interpreting process only what is to be interpreted runs; the rest means other ones."""
    if not INTERPRETING:
        return
    here = Path(__file__).parent
    other = [
        item for item in items
        if here in item.path.parents and "interpret" not in getattr(item, "fixturenames", ())
    ]  # fmt: skip
    if other:
        config.hook.pytest_deselected(items=other)
        items[:] = [item for item in items if item not in set(other)]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Take the result of an interpreted test from its file's child process."""
    if INTERPRETING or "interpret" not in pyfuncitem.fixturenames or _cuda(pyfuncitem.config):
        return None
    results = pyfuncitem.config.stash.setdefault(RESULTS, {})
    file = str(pyfuncitem.path)
    if file not in results:
        results[file] = _run_child(pyfuncitem)
    outcome, text = results[file].get(pyfuncitem.name, ("failed", "the child did not report it"))
    if outcome == "skipped":
        pytest.skip(text)
    if outcome == "failed":
        pytest.fail(text, pytrace=False)
    return True


def _run_child(first: pytest.Function) -> dict[str, tuple[str, str]]:
    """Run all chosen interpreted tests of one file; outcome and text by test name."""
    names = [
        item.nodeid
        for item in first.session.items
        if item.path == first.path and "interpret" in getattr(item, "fixturenames", ())
    ]
    server = _server(first.config)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        arguments = Path(folder, "arguments")
        arguments.write_text("\n".join(names), "utf-8")
        asked = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", f"@{arguments}"]
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        status = server.stdout.readline()
        if not report.is_file():
            pytest.fail(f"the interpreter's process ended early with {status!r}; see its output")
        cases = ElementTree.parse(report).iter("testcase")
        return {str(case.get("name")): _outcome(case) for case in cases}


def _server(config: pytest.Config) -> subprocess.Popen[str]:
    """The session's interpreting process, started where the first test needs it."""
    if SERVER not in config.stash:
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
        environment.pop("COVERAGE_PROCESS_START", None)
        config.stash[SERVER] = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("interpreting.py"))],
            cwd=config.rootpath, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    return config.stash[SERVER]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The interpreting process ends when its input does."""
    server = config.stash.get(SERVER, None)
    if server is not None:
        server.communicate()


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            text = f"{found.get('message', '')}\n{found.text or ''}"
            return ("skipped" if kind == "skipped" else "failed"), text
    return "passed", ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After `make aot-test`: what every kernel needs of every card."""
    aot = sys.modules.get("aot")
    if aot is not None and aot._made:
        terminalreporter.section("compiled ahead of time")
        for line in aot.table():
            terminalreporter.write_line(line)
