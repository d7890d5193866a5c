"""Small models of every family with a tokenizer that splits bytes, and llama.cpp where it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SIZES = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": None, "initializer_range": 0.25,
}  # fmt: skip
UNTIED = {"tie_word_embeddings": False, "num_hidden_layers": 3}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"type": "longrope", "short_factor": [1 + 0.1 * i for i in range(8)],
        "long_factor": [1 + 0.5 * i for i in range(8)]}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", UNTIED),
    "llama-biases": ("LlamaConfig", {"num_hidden_layers": 2, "tie_word_embeddings": True,
                                     "attention_bias": True, "mlp_bias": True}),
    "llama3": ("LlamaConfig", {**UNTIED, "rope_scaling": LLAMA3}),
    "linear": ("LlamaConfig", {**UNTIED, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("MistralConfig", {**UNTIED, "sliding_window": 64}),
    "qwen2": ("Qwen2Config", UNTIED),
    "yarn": ("Qwen2Config", {**UNTIED, "rope_scaling": YARN}),
    "qwen3": ("Qwen3Config", {**UNTIED, "head_dim": 32}),
    "gemma": ("GemmaConfig", {"num_hidden_layers": 2, "head_dim": 32}),
    "gemma2": ("Gemma2Config", {"num_hidden_layers": 4, **GEMMA}),
    "gemma3": ("Gemma3TextConfig", {"num_hidden_layers": 7, **GEMMA}),
    "gemma3-vision": ("Gemma3Config", {
        "text_config": {**SIZES, "num_hidden_layers": 7, **GEMMA,
                        "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16,
                          "intermediate_size": 16, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "image_size": 28, "patch_size": 14}}),
    "phi": ("Phi3Config", UNTIED),
    "phi-partial": ("Phi3Config", {**UNTIED, "num_attention_heads": 2, "num_key_value_heads": 1,
                                   "partial_rotary_factor": 0.5}),
    "phi-long": ("Phi3Config", {**UNTIED, "max_position_embeddings": 1024, "rope_scaling": LONG,
                                "original_max_position_embeddings": 256}),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 5, "tie_word_embeddings": True}),
}  # fmt: skip


def bytes_tokenizer() -> Any:
    """GPT-2's kind with a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(["the cat sat on the mat and the hat "] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def words() -> Any:
    """That tokenizer."""
    return bytes_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, words: Any) -> Callable[[str], Path]:
    """`model_folder("qwen3")`: a random model of MODELS with its tokenizer."""
    import transformers

    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name in made:
            return made[name]
        kind, changed = MODELS[name]
        torch.manual_seed(1)
        sizes = {} if "text_config" in changed else SIZES
        config = getattr(transformers, kind)(**{**sizes, **changed})
        model = transformers.AutoModelForCausalLM.from_config(config)
        for label, parameter in model.named_parameters():
            if "norm" in label or label.endswith("bias"):  # all alike until they are trained
                parameter.data += 0.3 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        made[name] = folder
        return folder

    return make


@pytest.fixture
def llamacpp(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`llamacpp(file, texts=..., prompts=...)`: what llama.cpp makes of a file.

    FTLAB_TEST_LLAMACPP is a Python with the package xllamacpp, which is in no lock.
    """
    python = os.environ.get("FTLAB_TEST_LLAMACPP")
    if not python:
        pytest.skip("FTLAB_TEST_LLAMACPP names no Python with xllamacpp")

    def ask(file: Path, **request: Any) -> dict[str, Any]:
        (tmp_path / "request.json").write_text(json.dumps(request))
        child = Path(__file__).with_name("llamacpp_child.py")
        subprocess.run(
            [python, child, file, tmp_path / "request.json", tmp_path / "reply.json"],
            check=True, timeout=120, capture_output=True, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        found: dict[str, Any] = json.loads((tmp_path / "reply.json").read_text())
        return found

    return ask
