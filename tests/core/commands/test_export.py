"""ftrun export: the path on stdout, a reason where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab import cli
from ftlab.export import merged, single
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


def test_the_card_is_printed(planned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(planned, "--to", "card") == 2
    (planned.export_dir / "adapter").mkdir(parents=True)
    assert export(planned, "--to", "card") == 0
    assert capsys.readouterr().out.startswith("---\nbase_model:")


def test_merging_is_asked_for(
    planned: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fake(run: Run, dtype: str) -> Path:
        asked.append((run.id, dtype))
        return run.export_dir / "merged"

    monkeypatch.setattr(merged, "export_merged", fake)
    assert export(planned, "--dtype", "fp16") == 0
    assert asked == [(planned.id, "fp16")]
    assert capsys.readouterr().out == f"{planned.export_dir / 'merged'}\n"
    assert export(planned, "--dtype", "q8_0") == 2
    assert "--to gguf" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["gguf", "ollama"])
@pytest.mark.parametrize("option", ["--to", "--format"])
def test_one_file_is_asked_for(
    planned: Run, form: str, option: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[Any] = []

    def fake(run: Run, kind: str, *, ollama: bool) -> tuple[Path, list[str]]:
        asked.append((run.id, kind, ollama))
        return run.export_dir / "x" / "a.gguf", ["mind the gap"]

    monkeypatch.setattr(single, "export_gguf", fake)
    assert export(planned, option, form, "--dtype", "q8_0") == 0
    assert asked == [(planned.id, "q8_0", form == "ollama")]
    told = capsys.readouterr()
    where = planned.export_dir / "x"
    assert told.out == f"{where / 'a.gguf' if form == 'gguf' else where}\n"
    assert "note: mind the gap" in told.err
    assert ("ollama create" in told.err) == (form == "ollama")


def test_without_an_adapter_the_reason_is_told(
    planned: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(planned) == 2
    assert "has no adapter yet" in capsys.readouterr().err
