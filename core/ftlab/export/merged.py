"""The adapter of a run merged into its base: export/merged, an ordinary Hugging Face model.

For nf4 and int8 the adapter is added to the unquantised base, as is usual, which is not exactly
what was trained against. `with_modelfile` adds what `ollama create` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ftlab.errors import ConfigError
from ftlab.export.adapter import save_model
from ftlab.folders import write_folder
from ftlab.lora.inject import load_adapter
from ftlab.lora.merge import merge
from ftlab.models.dtypes import as_dtype
from ftlab.models.load import load_model, load_tokenizer
from ftlab.run import Run

MODELFILE = "Modelfile"


def export_merged(
    run: Run, dtype: str = "bf16", more: Callable[[Path], None] = lambda folder: None
) -> Path:
    """Merge and write, whole or not at all; the folder. The base is held once, in fp32.

    Args:
        dtype: of the weights on disk: bf16, fp16 or fp32.
        more: writes further files into the folder.
    Raises:
        ConfigError: the run trained no adapter, or has not exported one.
        EnvironmentUnfit: the base cannot be had, disk full or read-only.
    """
    adapter, plan = run.export_dir / "adapter", run.plan()
    if plan.config.adapter.kind == "none":
        raise ConfigError(f"{run.id} trained every weight: {run.export_dir / 'model'} is whole")
    if not adapter.is_dir():
        raise ConfigError(f"{run.id} has no adapter yet: {adapter} is made when a run ends")
    facts, asked = plan.facts.model, plan.config.model
    loaded = load_model(
        facts.path,
        revision=facts.revision or None,
        trust_remote_code=asked.trust_remote_code,
        rope_scaling=asked.rope_scaling,
    )
    whole = merge(load_adapter(loaded.model, adapter))
    tokenizer = load_tokenizer(str(adapter), trust_remote_code=asked.trust_remote_code)

    def fill(folder: Path) -> None:
        save_model(whole, folder, as_dtype(dtype))
        tokenizer.save_pretrained(folder)
        more(folder)

    final = run.export_dir / "merged"
    write_folder(final, fill)
    return final


def with_modelfile(run: Run) -> Callable[[Path], None]:
    """Writes a Modelfile for Ollama, which reads safetensors itself, beside the weights.

    The length is that of training. The chat template is taken by Ollama from the tokenizer.
    """
    length = run.plan().config.model.max_length

    def write(folder: Path) -> None:
        lines = ["FROM ."]
        if isinstance(length, int):
            lines.append(f"PARAMETER num_ctx {length}")
        (folder / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write
