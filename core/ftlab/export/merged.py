"""The adapter of a run merged into its base: export/merged, an ordinary Hugging Face model.

For nf4 and int8 the adapter is added to the unquantised base, as is usual, which is not exactly
what was trained against.
"""

from __future__ import annotations

from pathlib import Path

from ftlab.errors import ConfigError
from ftlab.export.adapter import save_model
from ftlab.export.card import CARD, card
from ftlab.folders import write_folder
from ftlab.lora.inject import load_adapter
from ftlab.lora.merge import merge
from ftlab.models.dtypes import as_dtype
from ftlab.models.load import Loaded, load_model, load_tokenizer
from ftlab.run import Run


def export_merged(run: Run, dtype: str = "bf16") -> Path:
    """Merge and write, whole or not at all; the folder. The base is held once, in fp32.

    Args:
        dtype: of the weights on disk: bf16, fp16 or fp32.
    Raises:
        ConfigError: the run trained no adapter, or has not exported one.
        EnvironmentUnfit: the base cannot be had, disk full or read-only.
    """
    if run.plan().config.adapter.kind == "none":
        raise ConfigError(f"{run.id} trained every weight: {run.export_dir / 'model'} is whole")
    whole = load_whole(run)

    def fill(folder: Path) -> None:
        save_model(whole.model, folder, as_dtype(dtype))
        whole.tokenizer.save_pretrained(folder)
        (folder / CARD).write_text(card(run, "merged"), encoding="utf-8")

    final = run.export_dir / "merged"
    write_folder(final, fill)
    return final


def load_whole(run: Run) -> Loaded:
    """What a run made as one model in fp32: its adapter merged, or every weight as it trained them.

    Raises:
        ConfigError: the run has not exported anything.
        EnvironmentUnfit: the base cannot be had.
    """
    plan = run.plan()
    facts, asked = plan.facts.model, plan.config.model
    made = run.export_dir / ("model" if plan.config.adapter.kind == "none" else "adapter")
    if not made.is_dir():
        raise ConfigError(f"{run.id} has no {made.name} yet: {made} is made when a run ends")
    if made.name == "model":
        return load_model(str(made), trust_remote_code=asked.trust_remote_code)
    loaded = load_model(
        facts.path,
        revision=facts.revision or None,
        trust_remote_code=asked.trust_remote_code,
        rope_scaling=asked.rope_scaling,
    )
    tokenizer = load_tokenizer(str(made), trust_remote_code=asked.trust_remote_code)
    return Loaded(merge(load_adapter(loaded.model, made)), tokenizer, loaded.spec)
