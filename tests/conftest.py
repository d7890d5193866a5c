"""What every test may use: the real small model, the shared data, and a cache of its own.

A test that lacks data or model is skipped and says so. With FTLAB_TEST_COMPLETE=1, which `.ci/run`
sets, the lack is a failure instead.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_LOOP_SECONDS = 0.013
REAL_CACHE = os.environ.get("FTLAB_CACHE")

# Before any Hugging Face import: no test talks to a hub, and forked tokenizers do not warn.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Children import this checkout, whether or not it is installed, and what the caller added.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / folder) for folder in ("core", "kernels", "doctor", "tui")]
    + list(filter(None, [os.environ.get("PYTHONPATH")]))
)
# The first optimizer step imports torch's compiler, which would start a pool of idle processes.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# A shell that starts the tests in the background ignores Ctrl-C; children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lacking(reason: str) -> None:
    """Skip, or fail where everything is demanded."""
    if os.environ.get("FTLAB_TEST_COMPLETE") == "1":
        pytest.fail(f"FTLAB_TEST_COMPLETE=1 and {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data: FTLAB_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("FTLAB_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        lacking(f"no shared data at {folder} (set FTLAB_SHARED)")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A folder with SmolLM2-135M-Instruct: FTLAB_TEST_SMOLLM2, or the one the starter fetches."""
    from ftlab.errors import FtlabError
    from ftlab.starter.model import fetch

    prepared = os.environ.get("FTLAB_TEST_SMOLLM2")
    if prepared:
        return Path(prepared)
    try:
        with pytest.MonkeyPatch.context() as patch:
            if REAL_CACHE is not None:
                patch.setenv("FTLAB_CACHE", REAL_CACHE)
            return fetch()
    except FtlabError as error:
        lacking(f"SmolLM2 cannot be had: {error}")
        raise


@pytest.fixture(scope="session")
def load() -> Callable[[Path], ModuleType]:
    """`load(path)`: a file of tests as a module; test folders are no packages."""

    def load(path: Path) -> ModuleType:
        name = f"loaded_{path.parent.name}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def slowness() -> float:
    """How many times slower than the reference machine this one computes just now; at least 1.

    Bars of time are stated for an idle machine with two cores of about 3 GHz. A fixed loop of plain
    Python, the best of five, tells how far this machine is from that, so that a test fails for slow
    code and not for a slow or shared processor.
    """

    def loop() -> float:
        start, total = time.perf_counter(), 0
        for number in range(300_000):
            total += number % 7
        return time.perf_counter() - start

    return max(1.0, min(loop() for _ in range(5)) / REFERENCE_LOOP_SECONDS)


@pytest.fixture(scope="session")
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, _session_cache: Path) -> None:
    """Tests share a cache of the session, never the user's."""
    monkeypatch.setenv("FTLAB_CACHE", str(_session_cache))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU; torch is imported only when there are any."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
