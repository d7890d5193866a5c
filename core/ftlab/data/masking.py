"""Which characters, then which tokens, of a rendered dialogue are answers, with their end-of-turn.

Where a template marks answers with `{% generation %}`, its own marks are taken (and a following
end-of-turn token with them). Else each answer is located in the finished text: it begins where the
dialogue before it, rendered with the header of an answer, ends; it ends after its content, at the
first end-of-turn token. Contents that a template rewrites are found by rendering once more with
another content and comparing. A mark is never derived from a token's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ftlab.data.chat import Renderer
from ftlab.data.messages import Message, Skipped

Span = tuple[int, int]
Array = npt.NDArray[Any]

_OTHER = "\ue0f2"  # private-use character: no content begins or ends with it
_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
)


class Masker:
    """Finds the answers in dialogues rendered by one template."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.ends = self._end_tokens()

    def spans(
        self, messages: Sequence[Message], tools: list[Any] | None = None
    ) -> tuple[str, list[Span]]:
        """Text of a dialogue, and the character ranges of its trained answers.

        Args:
            messages: as `Renderer.fit` gives them; assistant messages of weight 0 are not trained.

        Raises:
            Skipped: the template refuses the dialogue, or an answer cannot be found in its text.
        """
        answers = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
        trained = [i for i in answers if messages[i].get("weight") != 0]
        messages = [{k: v for k, v in turn.items() if k != "weight"} for turn in messages]
        if self.renderer.has_generation:
            text, marked = self.renderer.render_spans(messages, tools)
            if len(marked) == len(answers):
                chosen = [marked[k] for k, i in enumerate(answers) if i in trained]
                return text, [(begin, self._with_end(text, begin, end)) for begin, end in chosen]
        text = self.renderer.render(messages, tools)
        spans: list[Span] = []
        for index in trained:
            begin = self._begin(text, messages, index, tools)
            end = self._end(text, messages, index, tools, begin)
            if begin >= end or (spans and begin < spans[-1][1]):
                raise Skipped("an answer is not found in the rendered text")
            spans.append((begin, end))
        return text, spans

    def _begin(
        self, text: str, messages: Sequence[Message], index: int, tools: list[Any] | None
    ) -> int:
        """Where answer `index` begins: after the header that is rendered before an answer."""
        if index:
            try:
                before = self.renderer.render(messages[:index], tools, prompt=True)
            except Skipped:
                before = ""
            if before and text.startswith(before):
                return len(before)
        # The header differs inside a finished dialogue, or the dialogue begins with an answer.
        return _common_prefix(text, self._with_other(messages, index, tools))

    def _end(
        self,
        text: str,
        messages: Sequence[Message],
        index: int,
        tools: list[Any] | None,
        begin: int,
    ) -> int:
        """Where answer `index` ends, past its end-of-turn token."""
        content = messages[index]["content"]
        for shown in (content, content.strip()):
            stop = begin + len(shown)
            if shown and text.startswith(shown, begin) and self._past_end(text, stop) > stop:
                return self._past_end(text, stop)
        try:
            other = self._with_other(messages, index, tools)
        except Skipped:
            return self._first_end(text, begin)
        return self._past_end(text, len(text) - _common_suffix(text, other, begin))

    def _with_other(self, messages: Sequence[Message], index: int, tools: list[Any] | None) -> str:
        """The dialogue rendered with another content for one answer."""
        other = {"role": "assistant", "content": _OTHER}
        return self.renderer.render([*messages[:index], other, *messages[index + 1 :]], tools)

    def _past_end(self, text: str, stop: int) -> int:
        """Past the end-of-turn token that follows `stop` directly or after white space."""
        after = stop
        while after < len(text) and text[after].isspace():
            after += 1
        for end in self.ends:
            if text.startswith(end, after):
                return after + len(end)
        return stop

    def _with_end(self, text: str, begin: int, end: int) -> int:
        """The end of a range that a template marks, with an end-of-turn token it leaves out."""
        ended = text[begin:end].rstrip().endswith(tuple(self.ends))
        return end if ended else self._past_end(text, end)

    def _first_end(self, text: str, begin: int) -> int:
        found = [text.find(end, begin) + len(end) for end in self.ends if end in text[begin:]]
        return min(found, default=len(text))

    def _end_tokens(self) -> list[str]:
        """Tokens that end an answer: the one this template puts after it, then the usual ones."""
        tokenizer = self.renderer.tokenizer
        special = {str(token) for token in tokenizer.get_added_vocab()}
        special |= {str(token) for token in tokenizer.all_special_tokens}
        text = self.renderer.render(
            [{"role": "user", "content": "probe"}, {"role": "assistant", "content": _OTHER}]
        )
        after = text.rpartition(_OTHER)[2].strip()
        own = [token for token in special if after.startswith(token)]
        first = [max(own, key=len)] if own else [after] if after else []
        if not first:
            self.renderer.done.add("it puts no end-of-turn token after an answer")
        usual = [token for token in (tokenizer.eos_token, *_ENDS) if token in special]
        return list(dict.fromkeys([*first, *usual]))


def token_marks(offsets: Array, spans: Sequence[Span]) -> Array:
    """Which tokens have a character inside a span, uint8 [L].

    Args:
        offsets: int [L, 2], characters of each token; (0, 0) for tokens that are not in the text.
        spans: character ranges, rising.

    Spaces that a tokenizer leaves out of its offsets belong to the token that follows.
    """
    marks = np.zeros(len(offsets), np.uint8)
    if not len(offsets):
        return marks
    starts, ends = offsets[:, 0], offsets[:, 1]
    before = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    starts = np.where(before < starts, before, starts)
    for begin, end in spans:
        marks |= ((starts < end) & (ends > begin)).astype(np.uint8)
    return marks


def _common_prefix(one: str, other: str) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _common_suffix(one: str, other: str, begin: int) -> int:
    """Length of the longest common suffix that leaves out `one[:begin]`."""
    low, high = 0, min(len(one) - begin, len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[-middle:] == other[-middle:] else (low, middle - 1)
    return low
