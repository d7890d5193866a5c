"""Real children that die in every way a probe can; each death is a finding."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ftlab_doctor import probes
from ftlab_doctor.checks.deep import judge, words
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host

SLEEP = "import time; time.sleep(60)"
DEATHS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "SIGSEGV", "another version"),
    "illegal": ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL", "lacks an instruction"),
    "abort": ("import os; os.abort()", "SIGABRT", "gave up"),
    "bus": ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "SIGBUS", "shared memory"),
    "out-of-memory": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", "want of memory"),
    "hang": (SLEEP, "no answer in 0.4 s", ""),
    "hang-deaf": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP, "no answer in 0.4 s", ""),
    "memory-limit": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2)\nx = bytearray(1 << 30)", "MemoryError", ""),
    "import": ("import no_such_module", "No module named 'no_such_module'", ""),
    "exit": ("raise SystemExit(7)", "exit 7", ""),
    "rubbish": ("print('\\x00\\xff }{ rubbish')", "nothing that can be read", ""),
    "silent": ("", "nothing that can be read", ""),
    "number": ("print(5)", "nothing that can be read", ""),
    "nested": ("print('[' * 100000)", "nothing that can be read", ""),
    "wrong": ("print('{\"wrong\": \"float16 is off by 3\"}')", "the result is wrong: float16", ""),
}  # fmt: skip


def _try(folder: Path, code: str, name: str = "matmul", limit: float = 30.0) -> Finding:
    script = folder / "probe.py"
    script.write_text(code)
    return judge(Host({"probes": {name: probes.run(name, script, limit)}}), name)


@pytest.mark.parametrize("death", DEATHS)
def test_every_death_is_a_finding_that_says_what_happened(death: str, tmp_path: Path) -> None:
    code, said, why = DEATHS[death]
    found = _try(tmp_path, code, limit=0.4 if death.startswith("hang") else 30.0)
    assert found.status == "fail"
    assert said in found.title
    assert why in found.why
    assert found.fix


def test_the_crash_is_told_with_the_place(tmp_path: Path) -> None:
    found = _try(tmp_path, "import ctypes\ndef kernel():\n    ctypes.string_at(0)\nkernel()")
    assert "Segmentation fault" in found.observed
    assert any('File "' in item.value for item in found.evidence)
    assert not any("Extension modules" in item.value for item in found.evidence)


def test_an_optional_part_that_dies_is_a_warning(tmp_path: Path) -> None:
    assert _try(tmp_path, "import os; os.abort()", "xformers").status == "warn"


def test_noise_before_the_answer_does_no_harm(tmp_path: Path) -> None:
    noise = "import sys\nprint('x' * 10**6)\nprint('warning', file=sys.stderr)\n"
    found = _try(tmp_path, noise + 'print(\'{"said": "all dtypes"}\')')
    assert (found.status, found.observed.split(" (")[0]) == ("ok", "all dtypes")
    skipped = _try(tmp_path, 'print(\'{"skipped": "no GPU"}\')')
    assert (skipped.status, skipped.title) == ("skip", "no GPU")


def test_what_a_hanging_child_has_started_is_ended_with_it(tmp_path: Path, slowness: float) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    assert "no answer" in _try(tmp_path, code, limit=0.7 * slowness).title
    grandchild, deadline = int(note.read_text()), time.monotonic() + 10
    while _alive(grandchild):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_core_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _try(tmp_path, "import os; os.abort()")
    assert os.listdir(tmp_path) == ["probe.py"]


def test_probes_are_children_and_stop_where_torch_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def run(name: str) -> probes.Result:
        asked.append(name)
        return {"rc": -11, "err": "", "out": {}}

    monkeypatch.setattr(probes, "run", run)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    facts: dict[str, object] = {}
    probes.collect(facts, lambda text: None)
    found = facts["probes"]
    assert isinstance(found, dict)
    assert asked == ["torch"]
    assert found["hub"] == {"skipped": "HF_HUB_OFFLINE is set"}
    assert all(
        found[name]["skipped"] == "torch cannot be imported"
        for name in probes.LIMITS
        if name != "torch"
    )


@pytest.mark.parametrize(
    ("err", "last"),
    [
        ("Traceback\n  File x\nOSError: libcudart.so.12: no such file\nwarning: later noise\n", "OSError: libcudart.so.12: no such file"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory\n", "torch.cuda.OutOfMemoryError: CUDA out of memory"),
        ("plain words\n", "plain words"),
    ],
)  # fmt: skip
def test_last_words(err: str, last: str) -> None:
    assert words(err)[-1] == last
    assert words("") == []
