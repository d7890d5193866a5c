"""What a run made as one GGUF file in a folder of its own, alone or with a Modelfile for Ollama."""

from __future__ import annotations

from pathlib import Path

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
    notes = write.notes(content)
    name = f"{run.id}-{kind}.gguf"
    length = plan.config.model.max_length

    def fill(folder: Path) -> None:
        write.write(content, folder / name)
        if ollama:
            number = length if isinstance(length, int) else None
            notes.extend(write_modelfile(folder, name, whole.tokenizer, number))

    folder = run.export_dir / ("ollama" if ollama else f"gguf-{kind}")
    write_folder(folder, fill)
    return folder / name, notes
