"""Exports load where they should, appear whole, and repeat their bytes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.errors import EnvironmentUnfit
from ftlab.export.adapter import export_trained
from ftlab.models.load import load_model
from ftlab.schema import AdapterSection


@pytest.fixture(scope="module")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama whose head is its embedding."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tied-model")
    words = {f"w{i}": i for i in range(32)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[3, 4, 5]])).logits
    return found


# PEFT asks transformers 5 for a property under the name it had in 4.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_loads_in_peft_with_its_tokenizer(tied_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = load_model(str(tied_model), adapter=AdapterSection(r=2), seed=1)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.01)
    made = export_trained(loaded.model, loaded.tokenizer, tmp_path, dtype=torch.float32)
    assert made == tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tied_model, dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(base, made)), logits(loaded.model))
    assert AutoTokenizer.from_pretrained(made).get_vocab() == loaded.tokenizer.get_vocab()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_full_model_loads_in_its_dtype_and_stays_tied(
    tied_model: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM

    loaded = load_model(str(tied_model), adapter=AdapterSection(kind="none"))
    before = logits(loaded.model)
    made = export_trained(loaded.model, loaded.tokenizer, tmp_path, dtype=dtype)
    assert made == tmp_path / "model"
    model = AutoModelForCausalLM.from_pretrained(made, dtype="auto")
    assert model.dtype == dtype
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tolerance = 0 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(logits(model.float()), before, rtol=tolerance, atol=tolerance)
    assert loaded.model.dtype == torch.float32  # the masters stay as they are
    assert torch.equal(logits(loaded.model), before)


def test_the_same_adapter_gives_the_same_bytes(tied_model: Path, tmp_path: Path) -> None:
    contents = []
    for place in ("one", "two"):
        loaded = load_model(str(tied_model), adapter=AdapterSection(r=2), seed=1)
        made = export_trained(loaded.model, loaded.tokenizer, tmp_path / place, dtype=torch.float32)
        contents.append({p.name: p.read_bytes() for p in made.iterdir()})
    assert contents[0] == contents[1]


def test_a_full_disk_keeps_the_former_export(
    tied_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(tied_model), adapter=AdapterSection(r=2), seed=1)
    made = export_trained(loaded.model, loaded.tokenizer, tmp_path, dtype=torch.float32)
    before = {p.name: p.read_bytes() for p in made.iterdir()}

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ftlab.export.adapter.save_adapter", full)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        export_trained(loaded.model, loaded.tokenizer, tmp_path, dtype=torch.float32)
    assert {p.name: p.read_bytes() for p in made.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
