"""Data sets on the hub, against a hub on localhost, with and without HF_HUB_OFFLINE."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab.data import hub
from ftlab.errors import DataError, TryLater

CHILD = """
import json, sys, tempfile
from pathlib import Path
from ftlab.data import rows, source
from ftlab.errors import FtlabError
found = []
for name, options in json.loads(sys.argv[1]):
    try:
        located = source.locate(name, **options)
        table = rows.read(located, Path(tempfile.mkdtemp()))
        texts = [row["text"] for batch in table.batches(9) for row in batch]
        found.append([located.describe(), located.identity, texts])
    except FtlabError as error:
        found.append([type(error).__name__, str(error)])
print(json.dumps([found, source.eval_split("org/good", subset=None, split="train")]))
"""
CASES: list[tuple[str, dict[str, str]]] = [
    ("org/good", {}),
    ("org/good", {"split": "train[1:]+test"}),
    ("org/good", {"split": "dev"}),
    ("org/configs", {}),
    ("org/configs", {"subset": "small"}),
    ("org/configs", {"subset": "huge"}),
    ("org/gated", {}),
    ("org/script", {}),
    ("org/missing", {}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a hub on localhost."""
    port = tmp_path_factory.mktemp("hub") / "port"
    script = Path(__file__).parent / "fake_hub.py"
    with subprocess.Popen([sys.executable, str(script), str(port)]) as process:
        try:
            deadline = time.monotonic() + 30
            while not (port.exists() and port.read_text()):
                assert time.monotonic() < deadline, "the hub did not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text()}"
        finally:
            process.terminate()


def ask(endpoint: str, home: Path, offline: bool) -> tuple[list[list[Any]], list[str]]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(CASES)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert child.stderr == ""
    found, evaluation = json.loads(child.stdout)
    return found, evaluation


def test_online_then_offline(server: str, tmp_path: Path) -> None:
    online, evaluation = ask(server, tmp_path, offline=False)
    assert evaluation == ["org/good", "test"]
    good, sliced, no_split, several, small, no_subset, gated, script, missing = online
    assert good[0] == "org/good (train) at 0123456789ab"
    assert good[2] == ["one", "two", "three"]
    assert sliced[2] == ["two", "three", "four"]
    assert no_split[1].startswith("data.split: org/good has no split 'dev'; it has train, test")
    assert several[1] == (
        "data.subset: org/configs has several: small, large (set data.subset to one)"
    )
    assert small[2] == ["s"]
    assert no_subset[1] == "data.subset: org/configs has no 'huge'; it has small, large"
    assert "org/gated is gated" in gated[1]
    assert "hf auth login" in gated[1]
    assert "scripts are never run" in script[1]
    assert "no such data set on the hub" in missing[1]
    assert "hf auth login" in missing[1]
    assert {row[0] for row in (no_split, several, no_subset, gated, script, missing)} == {
        "DataError"
    }

    offline, evaluation = ask("http://127.0.0.1:9", tmp_path, offline=True)
    assert evaluation == ["org/good", "test"]
    assert offline[:2] == online[:2]
    assert offline[4] == online[4]
    assert "in the cache; it has small" in offline[5][1]
    assert offline[8][0] == "EnvironmentUnfit"
    assert "HF_HUB_OFFLINE forbids" in offline[8][1]


def test_passing_faults_say_try_later() -> None:
    class ConnectTimeout(Exception):
        pass

    for error in (ConnectionError("refused"), ConnectTimeout("slow")):
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("HF_HUB_OFFLINE")
            found = hub._explain(error, "org/name", None, "data.source", "")
        assert isinstance(found, TryLater)
        assert "the hub cannot be reached for org/name" in str(found)


def test_anything_else_is_quoted() -> None:
    found = hub._explain(RuntimeError("odd"), "org/name", None, "data.source", "")
    assert isinstance(found, DataError)
    assert str(found) == "data.source: org/name cannot be opened: RuntimeError: odd"


def test_readers_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files: x.tar\n---\n"
    )
    import io
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("0.txt")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"a"))
    with pytest.raises(DataError, match=r"is read by 'webdataset'; allowed: json, csv"):
        hub.open_builder(str(tmp_path), None, "data.source", "")


def test_datasets_is_quiet_and_left_as_it_was() -> None:
    import datasets

    before = datasets.logging.get_verbosity()
    with hub.quiet_datasets() as module:
        assert module is datasets
        assert datasets.config.HF_UPDATE_DOWNLOAD_COUNTS is False
        assert datasets.logging.get_verbosity() == datasets.logging.CRITICAL
        assert datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == before
    assert not datasets.are_progress_bars_disabled()
