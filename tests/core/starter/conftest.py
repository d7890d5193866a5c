"""A cache in which the starter's model is a tiny one, so that a demo takes seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ftlab.starter import model


@pytest.fixture(scope="session")
def tiny_cache(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose `models/SmolLM2-135M-Instruct` has two random layers and the real tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    cache = tmp_path_factory.mktemp("tiny-cache")
    folder = cache / "models" / model.NAME
    folder.mkdir(parents=True)
    for path in smollm2.glob("*token*"):
        shutil.copy(path, folder)
    shutil.copy(smollm2 / "generation_config.json", folder)
    changes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    config = json.loads((smollm2 / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LlamaForCausalLM(LlamaConfig(**config))
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in made.state_dict().items()
        if name != "lm_head.weight"  # tied
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model._write_record(folder)
    assert model.intact(folder)
    return cache
