"""A Modelfile for a GGUF file: the chat template in Ollama's language, the length, where to stop.

Ollama does not run Jinja. A template that goes turn by turn is read off from what it renders: what
stands before and after a user's words, an answer, a system message. It is written only where text
put together from these parts is what the template itself gives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.data.chat import Renderer, Template, adds_bos
from ftlab.data.messages import Message, Skipped
from ftlab.errors import DataError

MODELFILE = "Modelfile"
_WORDS = tuple(f"ftlab{name}words" for name in ("one", "two", "three", "four", "five", "six"))


@dataclass(frozen=True, slots=True)
class Turns:
    """A chat template as the text between the words of a dialogue."""

    head: str  # before the first turn where there is no system message
    system: tuple[str, str] | None  # around one; None: it begins the user's first words
    user: tuple[str, str]  # around a user's words, the header of the answer included
    end: str  # after an answer

    def render(self, messages: Sequence[Message]) -> str:
        """A dialogue that may begin with a system message, up to the answer to come."""
        said = [message["content"] for message in messages if message["role"] == "system"]
        text = self.head
        if said and self.system:
            text = said[0].join(self.system)
        waiting = f"{said[0]}\n\n" if said and not self.system else ""
        for message in messages:
            if message["role"] == "user":
                text += f"{self.user[0]}{waiting}{message['content']}{self.user[1]}"
                waiting = ""
            elif message["role"] == "assistant":
                text += message["content"] + self.end
        return text

    def ollama(self) -> str:
        """The same as a template in Ollama's language (Go's text/template)."""
        first = "{{ if and $.System (le $i 1) }}{{ $.System }}\n\n{{ end }}"
        head = self.head
        if self.system:
            before, after = self.system
            head = (
                f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}"
                f"{{{{ else }}}}{head}{{{{ end }}}}"
            )
            first = ""
        return (
            f'{head}{{{{ range $i, $_ := .Messages }}}}{{{{ if eq .Role "user" }}}}{self.user[0]}'
            f'{first}{{{{ .Content }}}}{self.user[1]}{{{{ else if eq .Role "assistant" }}}}'
            f"{{{{ .Content }}}}{self.end}{{{{ end }}}}{{{{ end }}}}"
        )


def write_modelfile(folder: Path, gguf: str, tokenizer: Any, length: int | None) -> list[str]:
    """Write the Modelfile beside the GGUF file of that name; what a person should know of it."""
    turns = read_off(tokenizer)
    lines, notes = [f"FROM ./{gguf}"], []
    if turns is not None:
        lines.append(f'TEMPLATE """{turns.ollama()}"""')
        if turns.end.strip() in _specials(tokenizer):
            lines.append(f'PARAMETER stop "{turns.end.strip()}"')
    elif getattr(tokenizer, "chat_template", None):
        notes.append(
            "the chat template does more than go turn by turn, so the Modelfile has none: Ollama "
            "guesses one; check it with `ollama show --template`"
        )
    if length:
        lines.append(f"PARAMETER num_ctx {length}")
    (folder / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return notes


def read_off(tokenizer: Any) -> Turns | None:
    """The parts of the tokenizer's chat template; None without one, or where they are not all."""
    own = getattr(tokenizer, "chat_template", None)
    if not isinstance(own, str) or not own:
        return None
    try:
        renderer = Renderer(tokenizer, Template(own, "the tokenizer's own"))
        turns = _parts(renderer, _specials(tokenizer))
        if turns is None or not all(_agrees(renderer, turns, talk) for talk in _talks(turns)):
            return None
    except (DataError, Skipped):
        return None
    if adds_bos(tokenizer):
        turns = _without(tokenizer.bos_token, turns)
    texts = [turns.head, turns.end, *turns.user, *(turns.system or ())]
    return None if any(mark in text for text in texts for mark in ("{{", "}}", '"')) else turns


def _parts(renderer: Renderer, specials: Sequence[str]) -> Turns | None:
    """What stands between known words."""
    one, two, three = _WORDS[:3]
    talk = [_say("user", one), _say("assistant", two), _say("user", three)]
    parts = _between(renderer.render(talk, prompt=True), (one, two, three))
    if parts is None:
        return None
    before, answer, after, last = parts
    start = _start(before, after, specials)
    if last != answer:  # the header that asks for an answer is not the one an answer has
        return None
    head, end = before.removesuffix(start), after.removesuffix(start)
    shown = renderer.fit([_say("system", three), _say("user", one)], None)[0]
    if shown[0]["role"] != "system":
        return Turns(head, None, (start, answer), end)
    around = _between(renderer.render(shown, prompt=True), (three, one))
    if around is None or not around[1].endswith(start):
        return None
    return Turns(head, (around[0], around[1].removesuffix(start)), (start, answer), end)


def _talks(turns: Turns) -> list[list[Message]]:
    """Dialogues that must come out the same."""
    one, two, three, four, five, six = _WORDS
    long = [_say("user", one), _say("assistant", two), _say("user", three), _say("assistant", four)]
    long.append(_say("user", five))
    return [[_say("user", one)], long, [_say("system", six), *long]]


def _agrees(renderer: Renderer, turns: Turns, talk: list[Message]) -> bool:
    fitted = renderer.fit(talk, None)[0]
    return renderer.render(fitted, prompt=True) == turns.render(talk)


def _between(text: str, words: Sequence[str]) -> list[str] | None:
    """The pieces before, between and after words that each stand there once, in this order."""
    pieces = []
    for word in words:
        before, found, text = text.partition(word)
        if not found or word in text:
            return None
        pieces.append(before)
    return [*pieces, text]


def _start(before: str, after: str, specials: Sequence[str]) -> str:
    """What begins a user's turn, from what stands before the first one and before a later one.

    An answer ends with its special token, where it has one.
    """
    ending = (
        re.match(rf"\s*(?:{'|'.join(map(re.escape, specials))})\s*", after) if specials else None
    )
    start = after[ending.end() :] if ending else ""
    return start if start and before.endswith(start) else _common_end(before, after)


def _specials(tokenizer: Any) -> list[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return [token.content for token in added.values() if token.special]


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-length - 1] == other[-length - 1]:
        length += 1
    return one[len(one) - length :]


def _without(bos: str, turns: Turns) -> Turns:
    """Ollama puts the BOS there itself."""
    system = turns.system and (turns.system[0].removeprefix(bos), turns.system[1])
    if turns.head or turns.system:
        return Turns(turns.head.removeprefix(bos), system, turns.user, turns.end)
    return Turns("", None, (turns.user[0].removeprefix(bos), turns.user[1]), turns.end)


def _say(role: str, content: str) -> Message:
    return {"role": role, "content": content}
