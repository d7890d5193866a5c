"""The chat template: where it comes from, what it can show, and text rendered with it.

Rendering is the tokenizer's own `apply_chat_template`, so that training sees what inference sees.
Templates that cannot show a system message or tool calls get them in a form that they can; what was
done is said. Dates that a template prints are fixed, since the same data must give the same tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ftlab.data.messages import Message, Skipped
from ftlab.errors import DataError, Problem

MARKS = ("⟦", "⟧")
BUILT_IN = ("chatml", "alpaca")
TEMPLATE_DATE = date(2024, 7, 26)  # the date that Llama 3's own templates print by default

_FOLDER = Path(__file__).parent / "templates"
_SPAN = ("\ue0f0ftlab-begin\ue0f1", "\ue0f0ftlab-end\ue0f1")  # private-use characters
_TAG = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")
_DATE = re.compile(r"strftime_now\(\s*(['\"])([^'\"]*)\1\s*\)")
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "probe",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    },
}


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template.

    Attributes:
        text: Jinja source, as saved beside a tokenizer.
        origin: where it comes from, for people.
    """

    text: str
    origin: str


def resolve(tokenizer: Any, setting: str = "auto") -> Template:
    """The template that `data.chat_template` stands for.

    Args:
        tokenizer: Hugging Face tokenizer.
        setting: auto (the tokenizer's own, else chatml), tokenizer, chatml, alpaca, or the path of
            a Jinja file.

    Raises:
        DataError: the tokenizer has none, or the file is missing.
    """
    if setting in ("auto", "tokenizer"):
        own = _own(tokenizer)
        if own:
            return Template(own, "the tokenizer's own")
        if setting == "tokenizer":
            raise _problem("the tokenizer has no chat template", "use chatml, or a Jinja file")
        return _built_in(tokenizer, "chatml", " (the tokenizer has no chat template)")
    if setting in BUILT_IN:
        return _built_in(tokenizer, setting, "")
    path = Path(setting).expanduser()
    try:
        return Template(path.read_text(encoding="utf-8"), f"file {path}")
    except (OSError, UnicodeDecodeError) as error:
        known = "auto, tokenizer, chatml, alpaca, or the path of a Jinja file"
        raise _problem(f"got {setting!r}: {error}", f"expected {known}") from error


def _own(tokenizer: Any) -> str:
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, Mapping):
        return str(own.get("default") or next(iter(own.values()), ""))
    return str(own or "")


def _built_in(tokenizer: Any, name: str, why: str) -> Template:
    text = (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
    origin = f"built-in {name}{why}"
    if name == "chatml" and not _has_token(tokenizer, "<|im_end|>") and tokenizer.eos_token:
        text = text.replace("'<|im_end|>'", "eos_token", 1)
        origin += f", turns end with {tokenizer.eos_token}"
    if adds_bos(tokenizer):
        text = "{{- bos_token -}}\n" + text
    return Template(text, origin)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its BOS before plain text by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a", add_special_tokens=True)["input_ids"][:1] == [bos]


def _has_token(tokenizer: Any, token: str) -> bool:
    return token in tokenizer.get_added_vocab() or token in tokenizer.get_vocab()


@dataclass(slots=True)
class Renderer:
    """Renders dialogues with one template. Probes the template once for what it can show."""

    tokenizer: Any
    template: Template
    done: set[str] = field(default_factory=set)  # what had to be changed to fit, for people
    has_generation: bool = False
    _text: str = ""
    _marked: str = ""
    _system: bool = True
    _tools: bool = True
    _calls: bool = True
    _tool_role: bool = True

    def __post_init__(self) -> None:
        self._text = _DATE.sub(_fixed_date, self.template.text)
        if self._text != self.template.text:
            self.done.add(f"the date it prints is fixed to {TEMPLATE_DATE.isoformat()}")
        self._marked = _TAG.sub(_span_marker, self._text)
        self.has_generation = self._marked != self._text
        plain = [_say("user", "probe_user"), _say("assistant", "probe_answer")]
        try:
            shown = self.render(plain)
        except Skipped as error:
            raise _problem(f"{self.template.origin} cannot be rendered: {error}") from error
        if "probe_answer" not in shown:
            raise _problem(f"{self.template.origin} does not show assistant messages")
        call = {"id": "probe0000", "type": "function"}
        call["function"] = {"name": "probe_call", "arguments": {"a": "b"}}  # type: ignore[assignment]
        calling = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {**_say("tool", "probe_result"), "tool_call_id": "probe0000", "name": "probe_call"}
        self._system = self._shows("probe_system", [_say("system", "probe_system"), *plain])
        self._tools = self._shows("probe_tool", plain, [_TOOL])
        self._calls = self._shows("probe_call", [plain[0], calling, result, plain[1]])
        self._tool_role = self._calls or self._shows("probe_result", [*plain, result, plain[1]])

    def render(
        self, messages: Sequence[Message], tools: list[Any] | None = None, *, prompt: bool = False
    ) -> str:
        """Text of a dialogue; `prompt` adds the header of an answer to come.

        Raises Skipped where the template refuses the dialogue.
        """
        return self._apply(self._text, messages, tools, prompt)

    def render_spans(
        self, messages: Sequence[Message], tools: list[Any] | None = None
    ) -> tuple[str, list[tuple[int, int]]]:
        """Text, and what the template has between its generation tags, as character ranges."""
        rest = self._apply(self._marked, messages, tools, False)
        text = ""
        spans: list[tuple[int, int]] = []
        while True:
            before, mark, rest = rest.partition(_SPAN[0])
            text += before
            if not mark:
                return text, spans
            inside, _, rest = rest.partition(_SPAN[1])
            spans.append((len(text), len(text) + len(inside)))
            text += inside

    def fit(
        self, messages: Sequence[Message], tools: list[Any] | None
    ) -> tuple[list[Message], list[Any] | None]:
        """A dialogue in the form that the template can show; answers stay in their order."""
        turns = [dict(turn) for turn in messages]
        if tools and not self._tools:
            self.done.add("it does not show tools, so the column tools is not used")
            tools = None
        for turn in turns:
            if turn.get("tool_calls") and not self._calls:
                self.done.add("it does not show tool calls, so they are written as JSON text")
                turn["content"] = _calls_as_text(turn)
                del turn["tool_calls"]
            if turn["role"] == "tool" and not self._tool_role:
                self.done.add("it has no tool role, so tool results are user messages")
                turn["role"] = "user"
        return (turns if self._system else self._merge_system(turns)), tools

    def _merge_system(self, turns: list[Message]) -> list[Message]:
        """Put system messages before the first user message that follows."""
        merged: list[Message] = []
        waiting: list[str] = []
        for turn in turns:
            if turn["role"] == "system":
                self.done.add("it has no system role, so system messages begin the user's next")
                waiting.append(turn["content"])
                continue
            if waiting and turn["role"] == "user":
                turn = {**turn, "content": "\n\n".join([*waiting, turn["content"]])}
            elif waiting:
                merged.append(_say("user", "\n\n".join(waiting)))
            waiting = []
            merged.append(turn)
        return merged

    def _apply(
        self, text: str, messages: Sequence[Message], tools: list[Any] | None, prompt: bool
    ) -> str:
        from jinja2.exceptions import TemplateError

        try:
            shown = self.tokenizer.apply_chat_template(
                list(messages),
                tools=tools,
                chat_template=text,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        except (
            TemplateError,
            TypeError,
            KeyError,
            IndexError,
            ValueError,
            AttributeError,
        ) as error:
            raise Skipped(f"the chat template refuses it: {str(error)[:120]}") from error
        return str(shown)

    def _shows(
        self, word: str, messages: Sequence[Message], tools: list[Any] | None = None
    ) -> bool:
        try:
            return word in self.render(messages, tools)
        except Skipped:
            return False


def render_sample(
    tokenizer: Any, ids: Sequence[int], trained: Sequence[int], *, longest: int = 600
) -> str:
    """The text of a row with what is trained between MARKS.

    Args:
        tokenizer: decodes.
        ids: tokens of one sequence.
        trained: 0 or 1 of each.
        longest: characters of a part; the middle of a longer one is left out.
    """
    shown, begin = [], 0
    before = ""
    for end in range(1, len(ids) + 1):
        if end < len(ids) and bool(trained[end]) == bool(trained[begin]):
            continue
        # Decoding from the start keeps the space that a word's first token stands for.
        whole = _decode(tokenizer, ids[:end])
        part = (
            whole[len(before) :] if whole.startswith(before) else _decode(tokenizer, ids[begin:end])
        )
        part = _shorten(part, longest)
        shown.append(f"{MARKS[0]}{part}{MARKS[1]}" if trained[begin] else part)
        before, begin = whole, end
    return "".join(shown)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(
        tokenizer.decode(
            [int(token) for token in ids],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
    )


def _shorten(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def _span_marker(match: re.Match[str]) -> str:
    """The same tag as blocks that print a marker, so that whitespace is trimmed as before."""
    left, end, right = match.groups()
    mark = _SPAN[1 if end else 0]
    return f"{{%{left} if true %}}{{{{ '{mark}' }}}}{{% endif {right}%}}"


def _fixed_date(match: re.Match[str]) -> str:
    """The date that a call of `strftime_now` with a constant format gives, as a constant."""
    quote, form = match.groups()
    return quote + TEMPLATE_DATE.strftime(form) + quote


def _calls_as_text(turn: Message) -> str:
    calls = [call.get("function", call) for call in turn["tool_calls"]]
    lines = [json.dumps(call, ensure_ascii=False) for call in calls]
    return "\n".join([*([turn["content"]] if turn["content"] else []), *lines])


def _say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _problem(message: str, hint: str = "") -> DataError:
    return DataError([Problem("data.chat_template", message, hint)])
