"""Tiny tokenizers with chat templates in the style of the big families, and small data files."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEMPLATES = {
    path.stem: path.read_text(encoding="utf-8").rstrip("\n")
    for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))
}
SPECIALS: dict[str, tuple[str | None, str, list[str]]] = {  # bos, eos, further special tokens
    "llama3": (
        "<|begin_of_text|>",
        "<|eot_id|>",
        ["<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"],
    ),
    "qwen3": (None, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "gemma": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "mistral": ("<s>", "</s>", ["[INST]", "[/INST]"]),
    "phi3": ("<s>", "<|endoftext|>", ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]),
    "deepseek": ("<|bos|>", "<|eos|>", ["<|User|>", "<|Assistant|>"]),
    "generation": (None, "<|im_end|>", ["<|im_start|>"]),
    "endless": ("<s>", "</s>", []),
    "dated": (None, "<|im_end|>", ["<|im_start|>"]),
    "none": ("<s>", "</s>", []),
}
SPACED = ("gemma", "mistral", "phi3")  # words carry their space as a mark, as in SentencePiece
CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is the capital of France? Paris is.",
    "system user assistant model tool. Hello there, how are you today? I am fine, thank you.",
    "Think about it: 2 + 2 = 4 and 10 / 5 = 2, so the answer is 4.\n\nYes\nNo\n",
]


@functools.cache
def tiny_tokenizer(style: str, add_bos: bool = True) -> Any:
    """A tokenizer of a few hundred tokens with the special tokens and template of a family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bos, eos, others = SPECIALS[style]
    special = [token for token in (bos, eos, *others) if token]
    tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=style in SPACED))
    if style in SPACED:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
        alphabet = sorted({*"".join(CORPUS), "▁"} - {" ", "\n"})
        special += [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if bos and add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, special.index(bos))]
        )
    extra = {"additional_special_tokens": others} if others else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        chat_template=TEMPLATES.get(style),
        **extra,
    )


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Any]:
    """`tiny(style)`: a tokenizer in the style of a family."""
    return tiny_tokenizer


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """`write_rows(name, rows)`: a JSON-lines file, gzipped where the name ends in .gz."""

    def write(name: str, rows: list[Any]) -> Path:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            path.write_text(text, encoding="utf-8")
        return path

    return write
