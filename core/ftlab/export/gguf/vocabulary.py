"""A Hugging Face tokenizer in the words of llama.cpp: tokens, kinds, merges or scores.

llama.cpp has the splitting of text in code, under names, so a tokenizer is written only where one
of them splits as it does. Two sorts are known:
    gpt2    BPE over bytes, known by the pattern that splits the text
    llama   SentencePiece's BPE: spaces are "▁", unknown text is bytes, and pieces have scores.
            Its score is minus the rank of the first merge that makes a piece, which gives the
            same merges in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.data.chat import adds_bos
from ftlab.errors import EnvironmentUnfit

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"

_WORDS = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|"
    r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_THREE = f"{_SHORT}|{_WORDS % '{1,3}'}"
# What splits the text, and whether whole tokens are taken before merges: llama.cpp's name for it.
SPLITS: Mapping[tuple[tuple[str, ...], bool], str] = {
    (("bytes",), False): "gpt-2",
    (("digits", "bytes"), False): "smollm",
    ((f"{_SHORT}|{_WORDS % ''}",), False): "qwen2",
    ((_THREE,), True): "llama-bpe",
    ((_THREE,), False): "dbrx",
    ((_CASED % ("", "", ""),), True): "tekken",
    ((_CASED % (f"{_SHORT}?", f"{_SHORT}?", "{1,3}"),), False): "gpt-4o",
}


@dataclass(slots=True)
class Vocabulary:
    """What a file says of its tokenizer."""

    model: str  # gpt2 or llama
    pre: str  # llama.cpp's name of the splitting
    tokens: list[str]
    kinds: list[int]
    merges: list[str] = field(default_factory=list)  # gpt2
    scores: list[float] = field(default_factory=list)  # llama
    flags: dict[str, bool] = field(default_factory=dict)  # add_bos_token and others
    ids: dict[str, int] = field(default_factory=dict)  # bos_token_id and others
    template: str = ""
    swallowing: list[str] = field(default_factory=list)  # tokens that take the space after them


def describe(tokenizer: Any, rows: int, ends: Any = ()) -> Vocabulary:
    """The vocabulary of a tokenizer for an embedding of `rows` tokens.

    Args:
        tokenizer: Hugging Face tokenizer; what it does counts, not what its files say.
        rows: of the embedding; rows without a token are filled up.
        ends: the tokens a generation ends with, as in generation_config (a number or several).
    Raises:
        EnvironmentUnfit: llama.cpp has no tokenizer that would give the same tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _unfit("it is not one of the library tokenizers")
    raw = json.loads(backend.to_str())
    model = raw["model"]
    if model["type"] != "BPE":
        raise _unfit(f"it is of type {model['type']}, not BPE")
    tokens, kinds = _tokens(model["vocab"], raw["added_tokens"], rows)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    if model.get("byte_fallback"):
        found = _sentencepiece(backend, raw, tokens, kinds, merges)
    else:
        pre = _splitting(raw)
        spaced = [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in merges]
        found = Vocabulary("gpt2", pre, tokens, kinds, merges=spaced)
        found.flags["add_space_prefix"] = False
    found.flags["add_bos_token"] = adds_bos(tokenizer)
    found.flags["add_eos_token"] = _adds_eos(tokenizer)
    found.ids = dict(_special_ids(tokenizer, ends))
    found.swallowing = [t["content"] for t in raw["added_tokens"] if t["special"] and t["rstrip"]]
    own = getattr(tokenizer, "chat_template", None)
    found.template = own if isinstance(own, str) else ""
    return found


def _tokens(
    vocab: Mapping[str, int], added: list[dict[str, Any]], rows: int
) -> tuple[list[str], list[int]]:
    """Every row's text and kind."""
    numbers = [*vocab.values(), *(token["id"] for token in added)]
    if max(numbers) >= rows:
        raise _unfit(f"it has a token {max(numbers)}, the embedding has {rows} rows")
    tokens = [f"[PAD{number}]" for number in range(rows)]
    kinds = [UNUSED] * rows
    for text, number in vocab.items():
        tokens[number], kinds[number] = text, NORMAL
    for token in added:
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    return tokens, kinds


def _splitting(raw: Mapping[str, Any]) -> str:
    """llama.cpp's name for how the text is split before BPE."""
    normalizer = raw["normalizer"]
    parts = tuple(_split_parts(raw["pre_tokenizer"]))
    name = SPLITS.get((parts, bool(raw["model"].get("ignore_merges"))))
    if name is None or (normalizer is not None and normalizer["type"] != "NFC"):
        shown = json.dumps([normalizer, raw["pre_tokenizer"]], ensure_ascii=False)
        raise _unfit(f"llama.cpp has no splitting of this kind: {shown[:300]}")
    return name


def _split_parts(step: Mapping[str, Any] | None) -> Iterator[str]:
    kind = step["type"] if step else "nothing"
    if step and kind == "Sequence":
        for inner in step["pretokenizers"]:
            yield from _split_parts(inner)
    elif step and kind == "ByteLevel" and not step["add_prefix_space"]:
        if step["use_regex"]:
            yield "bytes"
    elif step and kind == "Digits" and step["individual_digits"]:
        yield "digits"
    elif step and kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        yield step["pattern"].get("Regex", "text")
    else:
        yield f"{kind} {json.dumps(step)}"


def _sentencepiece(
    backend: Any, raw: Mapping[str, Any], tokens: list[str], kinds: list[int],
    merges: list[tuple[str, ...]],
) -> Vocabulary:  # fmt: skip
    """SentencePiece's BPE, with scores that put its merges in the same order."""
    prefix = _space_prefix(raw)
    number = {token: i for i, token in enumerate(tokens)}
    scores = [0.0] * len(tokens)
    for piece, score in piece_scores(merges).items():
        scores[number[piece]] = score
    for token in raw["added_tokens"]:
        spaced = token["content"].replace(SPACE, " ")
        if spaced != token["content"] and token["id"] in backend.encode(f"x{spaced}x").ids:
            tokens[token["id"]] = spaced  # llama.cpp looks for it before spaces become marks
    _check_merges(set(merges), tokens, kinds)
    unknown = raw["model"].get("unk_token")
    for i, text in enumerate(tokens):
        if kinds[i] == NORMAL and len(text) == 6 and text.startswith("<0x") and text[-1] == ">":
            kinds[i] = BYTE
        elif text == unknown:
            kinds[i] = UNKNOWN
    found = Vocabulary("llama", "default", tokens, kinds, scores=scores)
    found.flags["add_space_prefix"] = prefix
    return found


def piece_scores(merges: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """A score for each piece, so that the best score first is the order of the merges.

    Pieces whose merges are mixed had one score: Hugging Face sorts such by the lengths of their
    parts, longer ones first.

    Raises:
        EnvironmentUnfit: the order says more than scores of pieces can.
    """
    last = {left + right: rank for rank, (left, right) in enumerate(merges)}
    scores: dict[str, float] = {}
    start, end = 0, -1
    for rank, (left, right) in enumerate(merges):
        piece, before = left + right, merges[rank - 1]
        if rank > end:
            start = rank
        elif piece != "".join(before) and _lengths(before) < _lengths((left, right)):
            raise _unfit(f"its merges do not follow from scores of pieces ({piece!r})")
        end = max(end, last[piece])
        scores.setdefault(piece, -float(start))
    return scores


def _lengths(pair: tuple[str, ...]) -> tuple[int, int]:
    return len(pair[0]), len(pair[1])


def _check_merges(known: set[tuple[str, ...]], tokens: list[str], kinds: list[int]) -> None:
    """llama.cpp merges any two pieces that make a third: every such merge must be there."""
    pieces = {
        token for token, kind in zip(tokens, kinds, strict=True) if kind in (NORMAL, USER_DEFINED)
    }
    for piece in pieces:
        for cut in range(1, len(piece)):
            pair = (piece[:cut], piece[cut:])
            if pair not in known and pair[0] in pieces and pair[1] in pieces:
                raise _unfit(f"its merges lack {pair[0]!r} with {pair[1]!r}")


def _space_prefix(raw: Mapping[str, Any]) -> bool:
    """Whether text begins with a mark of space; refuses what is not SentencePiece's way."""
    normalizer, splitter = raw["normalizer"], raw["pre_tokenizer"]
    steps = normalizer["normalizers"] if normalizer and "normalizers" in normalizer else []
    steps = steps or ([normalizer] if normalizer else [])
    prefix = False
    for step in steps:
        if step["type"] == "Prepend" and step["prepend"] == SPACE:
            prefix = True
        elif step["type"] != "Replace" or step["content"] != SPACE:
            raise _unfit(f"llama.cpp does not normalise text by {step['type']}")
    if splitter is None:
        return prefix
    if splitter["type"] == "Metaspace" and not splitter.get("split", True):
        return bool(splitter.get("prepend_scheme", "always") != "never")
    # Gemma's: nothing is left to split where spaces have become marks before.
    if splitter["type"] == "Split" and splitter["pattern"] == {"String": " "} and steps:
        return prefix
    raise _unfit(f"llama.cpp does not split text by {splitter['type']}")


def _adds_eos(tokenizer: Any) -> bool:
    eos = tokenizer.eos_token_id
    return eos is not None and tokenizer("a", add_special_tokens=True)["input_ids"][-1:] == [eos]


def _special_ids(tokenizer: Any, ends: Any) -> Iterator[tuple[str, int]]:
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    for name, ours in names.items():
        number = getattr(tokenizer, f"{ours}_token_id", None)
        if number is not None:
            yield f"{name}_token_id", int(number)
    listed = ends if isinstance(ends, (list, tuple)) else [ends]
    others = [end for end in listed if isinstance(end, int) and end != tokenizer.eos_token_id]
    if others:
        yield "eot_token_id", others[-1]


def _unfit(reason: str) -> EnvironmentUnfit:
    return EnvironmentUnfit(f"the tokenizer cannot be written as GGUF: {reason}")
