"""What a run made as one GGUF file in a folder of its own, alone or with a Modelfile for Ollama."""

from __future__ import annotations

import shutil
from pathlib import Path

from ftlab.errors import EnvironmentUnfit
from ftlab.export.card import CARD, card
from ftlab.export.gguf import write
from ftlab.export.merged import load_whole
from ftlab.export.ollama import write_modelfile
from ftlab.folders import write_folder
from ftlab.run import Run


def export_gguf(run: Run, kind: str = "bf16", *, ollama: bool = False) -> tuple[Path, list[str]]:
    """Merge and write, whole or not at all: the file, and what a person should know of it.

    Args:
        kind: of the matrices on disk: bf16, fp16, fp32 or q8_0.
        ollama: put a Modelfile beside it.
    Raises:
        ConfigError: the run has not exported anything.
        EnvironmentUnfit: llama.cpp would not compute this model, the base cannot be had, disk
            full or read-only.
    """
    plan = run.plan()
    whole = load_whole(run)
    base = plan.facts.model.name.rstrip("/").rpartition("/")[2]
    content = write.gather(whole.model, whole.tokenizer, whole.spec, kind, f"{base} {run.id}")
    _check_room(run.path, write.size(content))
    notes = write.notes(content)
    name = f"{run.id}-{kind}.gguf"
    length = plan.config.model.max_length

    def fill(folder: Path) -> None:
        write.write(content, folder / name)
        (folder / CARD).write_text(card(run, "ollama" if ollama else "gguf"), encoding="utf-8")
        if ollama:
            number = length if isinstance(length, int) else None
            notes.extend(write_modelfile(folder, name, whole.tokenizer, number))

    folder = run.export_dir / ("ollama" if ollama else f"gguf-{kind}")
    write_folder(folder, fill)
    return folder / name, notes


def _check_room(folder: Path, needed: int) -> None:
    """Refuse before minutes of writing what cannot be written whole."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentUnfit(
            f"the file takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on the disk of "
            f"{folder}; free some space, or take a smaller --dtype"
        )
