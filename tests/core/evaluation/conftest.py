"""A random 2-layer Llama with a chat template, small enough to generate in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


@pytest.fixture(scope="session")
def small_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model; 64 words w0 ... w61, pad and end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("small-chat-model")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "user": 3, "assistant": 4}
    words |= {f"w{i}": i for i in range(5, 64)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        initializer_range=0.2, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(small_chat_model: Path) -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_tokenizer

    model = AutoModelForCausalLM.from_pretrained(small_chat_model, dtype=torch.float32)
    return model, load_tokenizer(str(small_chat_model))
