"""Asks llama.cpp about a GGUF file: tokens of texts, log-probabilities after tokens, answers.

llamacpp_child.py FILE REQUEST REPLY, run by a Python that has xllamacpp; talks to localhost only.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import xllamacpp


def main(file: str, request: Path, reply: Path) -> None:
    """Answer one request."""
    asked = json.loads(request.read_text())
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.n_ctx = asked.get("context", 256)
    settings.n_parallel = settings.cpuparams.n_threads = 1
    settings.warmup = False
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(settings)

    def post(path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        address = server.listening_address + path
        with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
            return json.load(answer)

    def probabilities(prompt: list[int]) -> dict[str, float]:
        found = post("/completion", {"prompt": prompt, "n_predict": 1, "n_probs": 400,
                                     "temperature": 0, "ignore_eos": True})  # fmt: skip
        # Half a character is shown with the next token, and its numbers with it.
        first = found.get("completion_probabilities", [{"top_logprobs": []}])[0]
        return {str(token["id"]): token["logprob"] for token in first["top_logprobs"]}

    def answer(prompt: list[int]) -> list[int]:
        found = post("/completion", {"prompt": prompt, "n_predict": asked.get("most", 40),
                                     "temperature": 0, "return_tokens": True})  # fmt: skip
        tokens: list[int] = found["tokens"]
        return tokens

    text = {"add_special": True, "parse_special": True}
    reply.write_text(json.dumps({
        "tokens": [post("/tokenize", {"content": t, **text})["tokens"]
                   for t in asked.get("texts", [])],
        "logprobs": [probabilities(prompt) for prompt in asked.get("prompts", [])],
        "answers": [answer(prompt) for prompt in asked.get("answers", [])],
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
