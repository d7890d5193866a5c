"""Canonical rows as tokens with a mark for each, many at once through the fast tokenizer.

Chats are rendered by the template and tokenised without further special tokens. Texts without a
template get the tokenizer's own BOS, once, and its EOS at the end, which is trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ftlab.data.canonical import Canonical, Chat, ChatPair, Plain, PlainPair
from ftlab.data.chat import Renderer, Template, adds_bos
from ftlab.data.masking import Masker, Span, token_marks
from ftlab.data.messages import Message, Skipped
from ftlab.data.preference import share_prompt
from ftlab.errors import EnvironmentUnfit

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row, tokenised.

    Attributes:
        tokens: int32 [L], segments one after the other.
        marks: uint8 [L], 1 where trained.
        lengths: tokens of each segment: one, or prompt, chosen and rejected.
        key: hash of the prompt's text (of the whole text without a prompt), the same for every
            tokenizer; rows with equal keys have the same prompt.
    """

    tokens: Array
    marks: Array
    lengths: tuple[int, ...]
    key: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text to tokenise: its trained characters, and whether a template made it."""

    text: str
    spans: list[Span]
    templated: bool


class Encoder:
    """Tokenises rows with one tokenizer and template.

    Args:
        tokenizer: fast Hugging Face tokenizer.
        template: chat template; it is not looked at before the first chat.
        train_on: "completions" or "all".

    Raises:
        EnvironmentUnfit: the tokenizer has no fast form.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        train_on: Literal["completions", "all"] = "completions",
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise EnvironmentUnfit(
                f"the tokenizer {tokenizer.name_or_path} has no fast form (tokenizer.json), "
                "which is needed to know which tokens are answers"
            )
        self.tokenizer = tokenizer
        self.template = template
        self.train_on = train_on
        self._adds_bos = adds_bos(tokenizer)
        self._masker: Masker | None = None

    @property
    def masker(self) -> Masker:
        """Finds answers; made when the first chat comes."""
        if self._masker is None:
            self._masker = Masker(Renderer(self.tokenizer, self.template))
        return self._masker

    def describe_template(self) -> str:
        """Where the template came from and what had to be changed to fit it, after `encode`."""
        if self._masker is None:
            return "none: texts are trained as they are"
        return "; ".join([self.template.origin, *sorted(self._masker.renderer.done)])

    def encode(self, rows: Sequence[Canonical | Skipped]) -> list[Encoded | Skipped]:
        """Tokenise rows; those that cannot be used come back as Skipped with the reason."""
        pieces = [self._try_pieces(row) for row in rows]
        flat = [piece for group in pieces if not isinstance(group, Skipped) for piece in group]
        done = iter(self._tokenise(flat))
        result: list[Encoded | Skipped] = []
        for row, group in zip(rows, pieces, strict=True):
            if isinstance(group, Skipped) or isinstance(row, Skipped):
                result.append(group if isinstance(group, Skipped) else Skipped("skipped"))
                continue
            parts = [next(done) for _ in group]
            result.append(_join(parts, prompt_key(row)))
        return result

    def _try_pieces(self, row: Canonical | Skipped) -> list[_Piece] | Skipped:
        if isinstance(row, Skipped):
            return row
        try:
            pieces = self._pieces(row)
            for piece in pieces:
                piece.text.encode()
        except Skipped as skipped:
            return skipped
        except UnicodeEncodeError:
            return Skipped("text is not valid Unicode")
        return pieces

    def _pieces(self, row: Canonical) -> list[_Piece]:
        if isinstance(row, Plain):
            return [_continued(row.prompt, row.completion)]
        if isinstance(row, PlainPair):
            return [_continued(row.prompt, answer) for answer in (row.chosen, row.rejected)]
        if isinstance(row, Chat):
            return [self._dialogue(row.messages, row.answer, row.tools)]
        return [
            self._dialogue([*row.prompt, *answer], len(row.prompt), row.tools)
            for answer in (row.chosen, row.rejected)
        ]

    def _dialogue(self, messages: list[Message], answer: int, tools: list[Any] | None) -> _Piece:
        weighed = [{**turn, "weight": 0} for turn in messages[:answer]] + messages[answer:]
        turns, shown = self.masker.renderer.fit(weighed, tools)
        return _Piece(*self.masker.spans(turns, shown), True)

    def _tokenise(self, pieces: Sequence[_Piece]) -> list[tuple[Array, Array]]:
        """(tokens int32 [L], marks uint8 [L]) of each piece."""
        done: dict[int, tuple[Array, Array]] = {}
        for special in (False, True):
            chosen = [i for i, piece in enumerate(pieces) if self._special(piece) == special]
            if not chosen:
                continue
            encoded = self.tokenizer(
                [pieces[i].text for i in chosen],
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            for i, ids, offsets in zip(
                chosen, encoded["input_ids"], encoded["offset_mapping"], strict=True
            ):
                done[i] = self._marked(pieces[i], ids, offsets)
        return [done[i] for i in range(len(pieces))]

    def _special(self, piece: _Piece) -> bool:
        """Whether the tokenizer puts its own special tokens: never twice, never around a chat."""
        bos = self.tokenizer.bos_token
        begins = self._adds_bos and bool(bos) and piece.text.startswith(bos)
        return not piece.templated and not begins

    def _marked(
        self, piece: _Piece, ids: list[int], offsets: list[tuple[int, int]]
    ) -> tuple[Array, Array]:
        tokens = np.array(ids, np.int32)
        marks = token_marks(np.array(offsets, np.int64).reshape(-1, 2), piece.spans)
        eos = self.tokenizer.eos_token_id
        if not piece.templated and eos is not None:
            if not len(ids) or ids[-1] != eos:
                tokens, marks = np.append(tokens, np.int32(eos)), np.append(marks, np.uint8(1))
            marks[-1] = 1
        if self.train_on == "all":
            marks[:] = 1
        return tokens, marks


def prompt_key(row: Canonical) -> int:
    """64-bit hash of what stands before the answer: the same for every model and tokenizer."""
    if isinstance(row, Plain):
        identity: Any = row.prompt or row.completion
    elif isinstance(row, PlainPair):
        identity = row.prompt or [row.chosen, row.rejected]
    elif isinstance(row, ChatPair):
        identity = row.prompt
    else:
        answers = (i for i, turn in enumerate(row.messages) if turn["role"] == "assistant")
        first = next(i for i in answers if i >= row.answer)
        identity = row.messages[:first] or row.messages
    text = json.dumps(identity, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _continued(prompt: str, answer: str) -> _Piece:
    return _Piece(prompt + answer, [(len(prompt), len(prompt) + len(answer))], False)


def _join(parts: list[tuple[Array, Array]], key: int) -> Encoded | Skipped:
    if len(parts) == 1:
        tokens, marks = parts[0]
        if not marks[1:].any():
            return Skipped("no trained token")
        return Encoded(tokens, marks, (len(tokens),), key)
    (chosen, chosen_marks), (rejected, rejected_marks) = parts
    if np.array_equal(chosen, rejected):
        return Skipped("chosen equals rejected")
    if not chosen_marks[1:].any() or not rejected_marks[1:].any():
        return Skipped("no trained token")
    tokens, marks, lengths = share_prompt(chosen, chosen_marks, rejected, rejected_marks)
    return Encoded(tokens, marks, lengths, key)
