"""The result of a run: export/adapter in PEFT's format, or export/model after full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftlab import atomic
from ftlab.folders import write_folder
from ftlab.lora.inject import save_adapter


def export_trained(model: Any, tokenizer: Any, root: Path, *, dtype: torch.dtype) -> Path:
    """Write what was trained with its tokenizer, whole or not at all; the folder.

    Args:
        model: the PEFT module, saved as `root/adapter`, or the Hugging Face module, saved as
            `root/model`.
        dtype: of full weights on disk. Adapters stay fp32, as they were trained.
    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden; a former export stays.
    """
    is_adapter = hasattr(model, "peft_config")

    def fill(folder: Path) -> None:
        if is_adapter:
            save_adapter(model, folder)
        else:
            save_model(model, folder, dtype)
        tokenizer.save_pretrained(folder)

    final = root / ("adapter" if is_adapter else "model")
    write_folder(final, fill)
    return final


def save_model(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Hugging Face's format, cast on the way: the fp32 masters in memory stay as they are."""
    cast: dict[int, Tensor] = {}  # tied tensors stay one
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = cast.setdefault(tensor.data_ptr(), tensor.to(dtype))
    model.save_pretrained(folder, state_dict=state)
    # save_pretrained notes the dtype of the masters; transformers 5 knows only the second name.
    config = atomic.read_json(folder / "config.json")
    for key in {"torch_dtype", "dtype"} & config.keys():
        config[key] = str(dtype).removeprefix("torch.")
    atomic.write_json(folder / "config.json", config)
