"""Real data through the real tokenizer: trained tokens equal what a simple count gives.

The counts here know nothing of the code under test: they tokenise the parts of each row one by one
and add up what should carry loss.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftlab.data import prepare
from ftlab.data.batches import build
from ftlab.data.tokens import TokenStore
from ftlab.facts import DataFacts
from ftlab.schema import DataSection

SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from ftlab.models.load import load_tokenizer

    return load_tokenizer(str(smollm2))


@pytest.fixture
def count(tokenizer: Any) -> Any:
    """Number of tokens of a text."""
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def trained_in_batches(facts: DataFacts) -> int:
    """Labels of one epoch of packed batches, counted on the batches themselves."""
    index = build(
        TokenStore.open(facts.store),
        seed=1,
        epochs=1,
        max_steps=None,
        batch_size=16,
        micro_batch_size=1,
        max_length=facts.longest,
        overlong="truncate",
        packing=True,
    )
    return sum(int((micro.labels != -100).sum()) for step in index for micro in step.micro)


def test_alpaca(shared: Path, tokenizer: Any, count: Any, tmp_path: Path) -> None:
    path = shared / "data/sft/alpaca_libre_ok.jsonl.gz"
    facts = prepare.prepare_store(DataSection(source=str(path)), tokenizer, cache_dir=tmp_path)
    rows = [row for row in lines(path) if row["output"].strip()]
    expected = total = 0
    for row in rows:
        asked = row["instruction"] + ("\n\n" + row["input"] if row["input"].strip() else "")
        expected += count(row["output"] + "<|im_end|>")
        total += count(
            f"{SYSTEM}<|im_start|>user\n{asked}<|im_end|>\n"
            f"<|im_start|>assistant\n{row['output']}<|im_end|>\n"
        )
    assert (facts.rows, facts.skipped) == (3108, {"empty answer": 34})
    assert facts.trained_tokens == trained_in_batches(facts) == expected
    assert facts.tokens == total
    assert facts.format == "alpaca"


def test_gsm8k_as_text_and_as_chat(
    shared: Path, tokenizer: Any, count: Any, tmp_path: Path
) -> None:
    path = shared / "data/task/gsm8k_train.jsonl.gz"
    columns = {"prompt": "question", "completion": "answer"}
    text = DataSection(source=str(path), columns=columns, split="train[:1000]")
    chat = DataSection(
        source=str(path), columns=columns, split="train[:1000]", chat_template="tokenizer"
    )
    rows = list(lines(path))[:1000]
    answers = sum(count(row["answer"] + "<|im_end|>") for row in rows)
    facts = prepare.prepare_store(text, tokenizer, cache_dir=tmp_path)
    assert facts.rows == 1000
    assert facts.trained_tokens == trained_in_batches(facts) == answers
    assert facts.tokens == sum(count(row["question"] + row["answer"]) + 1 for row in rows)
    facts = prepare.prepare_store(chat, tokenizer, cache_dir=tmp_path)
    assert facts.trained_tokens == trained_in_batches(facts) == answers


def paths(node: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    """Every way from the first message of a tree to a last one."""
    role = {"prompter": "user", "assistant": "assistant"}[node["role"]]
    turn = {"role": role, "content": node["text"]}
    if not node["replies"]:
        yield [turn]
    for reply in node["replies"]:
        for rest in paths(reply):
            yield [turn, *rest]


def test_paths_of_conversation_trees(
    shared: Path, tokenizer: Any, count: Any, tmp_path: Path
) -> None:
    trees = list(lines(shared / "data/chat/oasst_en_100_trees.jsonl.gz"))
    chats = [path for tree in trees for path in paths(tree["prompt"])]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    facts = prepare.prepare_store(
        DataSection(source=str(file)), tokenizer, cache_dir=tmp_path / "cache"
    )
    assert (len(trees), len(chats)) == (100, 626)
    usable = [chat for chat in chats if any(turn["role"] == "assistant" for turn in chat)]
    expected = sum(
        count(turn["content"] + "<|im_end|>")
        for chat in usable
        for turn in chat
        if turn["role"] == "assistant"
    )
    assert facts.rows == len(usable)
    assert facts.trained_tokens == trained_in_batches(facts) == expected
    assert max(map(len, usable)) == 6


def test_preference_pairs(shared: Path, tokenizer: Any, count: Any, tmp_path: Path) -> None:
    path = shared / "data/preference/hh_rlhf_harmless_base_test.jsonl.gz"
    facts = prepare.prepare_store(
        DataSection(source=str(path)), tokenizer, method="dpo", cache_dir=tmp_path
    )
    expected = rows = 0
    for row in lines(path):
        chosen, rejected = (
            re.split(r"\n\nAssistant:(?!.*\n\nAssistant:)", row[side], maxsplit=1, flags=re.S)
            for side in ("chosen", "rejected")
        )
        if chosen[0] != rejected[0] or not (chosen[1].strip() and rejected[1].strip()):
            continue
        rows += 1
        for side in (chosen, rejected):
            expected += count(side[1].removeprefix(" ") + "<|im_end|>")
    assert rows == 2303
    assert facts.rows == rows
    assert facts.skipped == {
        "chosen and rejected differ before the last answer": 5,
        "empty answer": 4,
    }
    assert facts.trained_tokens == trained_in_batches(facts) == expected


def test_prompt_and_answers_of_pairs_are_the_templates_tokens(
    shared: Path, tokenizer: Any, tmp_path: Path
) -> None:
    path = shared / "data/preference/dpo_en_demo.jsonl.gz"
    facts = prepare.prepare_store(
        DataSection(source=str(path)), tokenizer, method="dpo", cache_dir=tmp_path
    )
    store = TokenStore.open(facts.store)
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for number, row in enumerate(lines(path)):
        said = [
            {"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]
        ]
        for side, (tokens, marks) in zip(
            ("chosen", "rejected"), store.sequences(number), strict=True
        ):
            answer = {"role": "assistant", "content": row[side]["value"]}
            ids = tokenizer.apply_chat_template([*said, answer], tokenize=True, return_dict=True)[
                "input_ids"
            ]
            begin = tokenizer.apply_chat_template(
                said, tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
            assert tokens.tolist() == ids
            assert np.flatnonzero(marks)[[0, -1]].tolist() == [len(begin), len(ids) - 2]
    assert number == 299


@pytest.mark.parametrize(
    ("name", "method", "form", "rows", "skipped"),
    [
        ("sft/gpteacher_codegen", "sft", "alpaca", 4535, 0),
        ("sft/llms_from_scratch_instruction", "sft", "alpaca", 1100, 0),
        ("chat/glaive_toolcall_en_demo", "sft", "sharegpt", 300, 0),
        ("preference/kto_en_demo", "sft", "kto", 150, 150),
        ("preference/llms_from_scratch_preference", "dpo", "preference", 1094, 6),
        ("text/wikipedia_30_articles", "sft", "text", 30, 0),
    ],
)
def test_every_format_of_the_shared_data(
    shared: Path,
    tokenizer: Any,
    tmp_path: Path,
    name: str,
    method: str,
    form: str,
    rows: int,
    skipped: int,
) -> None:
    path = shared / f"data/{name}.jsonl.gz"
    facts = prepare.prepare_store(
        DataSection(source=str(path)), tokenizer, method=method, cache_dir=tmp_path
    )
    assert (facts.format, facts.rows) == (form, rows)
    assert sum(facts.skipped.values()) == skipped
    assert trained_in_batches(facts) == facts.trained_tokens > 0


def test_wikitext_perplexity_text_is_whole(
    shared: Path, tokenizer: Any, count: Any, tmp_path: Path
) -> None:
    path = shared / "data/text/wikitext2_test.txt.gz"
    facts = prepare.prepare_store(DataSection(source=str(path)), tokenizer, cache_dir=tmp_path)
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        texts = [line.rstrip("\n") for line in stream if line.strip()]
    assert facts.rows == len(texts)
    assert facts.tokens == sum(count(text) + 1 for text in texts)
    assert facts.trained_tokens == facts.tokens - facts.rows  # nothing predicts a first token
