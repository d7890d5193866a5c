"""Scores a model on the starter's held-out rows, in a process of its own.

    python -m ftlab.starter.score REQUEST ANSWER

REQUEST is a JSON file: {model, adapter or null, rows, device, dtype}; ANSWER gets {score, correct,
rows, answers}. Model and adapter are loaded by transformers and PEFT alone, so the score also shows
that what training saved is an ordinary adapter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab import atomic

LONGEST_ANSWER = 28  # tokens; the longest record of the held-out rows has fewer
AT_ONCE = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the request names and write the answer; the exit code."""
    request_path, answer_path = map(Path, sys.argv[1:] if argv is None else argv)
    request = atomic.read_json(request_path)
    answers = list(answer(request, read_rows(Path(request["rows"]))))
    correct = sum(item["correct"] for item in answers)
    atomic.write_json(
        answer_path,
        {
            "score": correct / len(answers),
            "correct": correct,
            "rows": len(answers),
            "answers": answers,
        },
        durable=False,
    )
    return 0


def read_rows(path: Path) -> list[tuple[list[dict[str, str]], str]]:
    """(prompt, reference) of every row of a JSONL file of chats."""
    chats = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    return [(chat[:-1], chat[-1]["content"]) for chat in chats]


def answer(request: Mapping[str, Any], rows: Sequence[tuple[Any, str]]) -> Iterator[dict[str, Any]]:
    """Answer every row greedily: {prompt, text, reference, correct}, with a bar on a terminal."""
    from tqdm import tqdm

    from ftlab.evaluation.exact_match import exact_match

    model, tokenizer = load(request)
    with tqdm(total=len(rows), unit="row", desc="exact match", disable=None, leave=False) as bar:
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            found = exact_match(
                model, tokenizer, part, max_new_tokens=LONGEST_ANSWER, batch_size=AT_ONCE
            )
            for item in found.answers:
                yield {
                    "prompt": item.prompt[-1]["content"],  # type: ignore[index]
                    "text": item.text.strip(),
                    "reference": item.reference,
                    "correct": item.correct,
                }
            bar.update(len(part))


def load(request: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model, with its adapter when there is one, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    tokenizer = AutoTokenizer.from_pretrained(request["model"])
    model = AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=dtype[request["dtype"]], use_safetensors=True
    )
    if request["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, request["adapter"])
    return model.to(request["device"]).eval(), tokenizer


if __name__ == "__main__":
    sys.exit(main())
