"""ftrun export: the path on stdout, a reason where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab import cli
from ftlab.export import merged
from ftlab.run import Run


def export(run: Run, *options: str) -> int:
    return cli.main(["export", run.id, "--runs-dir", str(run.path.parent), *options])


def test_the_adapter_is_where_the_run_put_it(
    planned: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(planned, "--to", "adapter") == 2
    assert "has made nothing yet" in capsys.readouterr().err
    (planned.export_dir / "adapter").mkdir(parents=True)
    assert export(planned, "--to", "adapter") == 0
    assert capsys.readouterr().out == f"{planned.export_dir / 'adapter'}\n"


@pytest.mark.parametrize("form", ["merged", "ollama"])
def test_merging_is_asked_for(
    planned: Run, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fake(run: Run, dtype: str, more: Any) -> Path:
        folder = run.export_dir / "merged"
        folder.mkdir(parents=True)
        more(folder)
        asked.append((run.id, dtype, (folder / "Modelfile").exists()))
        return folder

    monkeypatch.setattr(merged, "export_merged", fake)
    assert export(planned, "--to", form, "--dtype", "fp16") == 0
    assert asked == [(planned.id, "fp16", form == "ollama")]
    told = capsys.readouterr()
    assert told.out == f"{planned.export_dir / 'merged'}\n"
    assert ("ollama create" in told.err) == (form == "ollama")


def test_without_an_adapter_the_reason_is_told(
    planned: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(planned) == 2
    assert "has no adapter yet" in capsys.readouterr().err
