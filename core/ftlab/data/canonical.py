"""Rows of every recognised format as the few things that are tokenised: texts, chats and pairs.

A row that cannot teach anything raises `Skipped` with the reason, which is counted and said. A row
whose value has the wrong type raises `WrongType`, which becomes an error with file and line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.data.formats import Format
from ftlab.data.messages import (
    Message,
    Skipped,
    WrongType,
    hh_messages,
    is_dialogue,
    is_hh,
    kind,
    messages,
)


@dataclass(frozen=True, slots=True)
class Plain:
    """Texts without a template: the answer follows the prompt directly; "" before whole texts."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A dialogue; assistant messages from index `answer` on are trained, but for weight 0."""

    messages: list[Message]
    answer: int = 0
    tools: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class PlainPair:
    """A prompt and two texts that follow it."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class ChatPair:
    """A dialogue and two ways to go on."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Any] | None = None


Canonical = Plain | Chat | PlainPair | ChatPair


def converter(fmt: Format, *, as_chat: bool) -> Callable[[Mapping[str, Any] | None], Canonical]:
    """The function that turns a row of format `fmt` into its canonical form.

    Args:
        fmt: from `formats.detect`.
        as_chat: whether prompt and answer texts become a chat of two messages, too.

    The function raises Skipped or WrongType.
    """
    convert = _CONVERTERS[fmt.name]

    def one(row: Mapping[str, Any] | None) -> Canonical:
        if row is None:
            raise Skipped("row is null")
        values = {role: _named(fmt, role, value) for role, value in fmt.view(row).items()}
        return convert(values, as_chat)

    return one


@dataclass(frozen=True, slots=True)
class _Value:
    """A cell and the name of its column, for messages."""

    column: str
    value: Any

    def text(self, *, required: bool = True) -> str:
        if isinstance(self.value, str):
            return self.value
        if self.value is None:
            if required:
                raise Skipped(f"{self.column} is null")
            return ""
        raise WrongType(f"column {self.column!r} holds {kind(self.value)}, expected text")

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)


def _named(fmt: Format, role: str, value: Any) -> _Value:
    return _Value(fmt.map[role], value)


def _absent(values: Mapping[str, _Value], role: str) -> _Value:
    return values.get(role, _Value(role, None))


def _text(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    text = values["text"].text()
    if not text.strip():
        raise Skipped("empty text")
    return Plain("", text)


def _alpaca(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    return _chat([*_alpaca_prompt(values), _assistant(values["output"])], values, answer=0)


def _alpaca_prompt(values: Mapping[str, _Value]) -> list[Message]:
    instruction = values["instruction"].text()
    material = _absent(values, "input").text(required=False)
    if not instruction.strip() and not material.strip():
        raise Skipped("empty instruction")
    joined = f"{instruction}\n\n{material}" if material.strip() else instruction
    return [*_system(values), {"role": "user", "content": joined}]


def _messages(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    dialogue = values.get("messages") or values["conversations"]
    return _chat([*_system(values), *messages(dialogue.value, dialogue.column)], values, answer=0)


def _prompt_completion(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    prompt, completion = values["prompt"], values["completion"]
    texts = not (prompt.is_list or completion.is_list)
    if texts and not as_chat and "system" not in values and "tools" not in values:
        answer = completion.text()
        if not answer.strip():
            raise Skipped("empty answer")
        return Plain(prompt.text(), answer)
    before = [*_system(values), *_turns(prompt, "user")]
    return _chat([*before, *_turns(completion, "assistant")], values, answer=len(before))


def _kto(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    label = values["label"].value
    if label is None:
        raise Skipped("label is null")
    good = str(label).lower()
    if good not in ("true", "false", "1", "0"):
        raise WrongType(
            f"column {values['label'].column!r} holds {label!r}, expected true or false"
        )
    if good in ("false", "0"):
        raise Skipped("labelled false")
    if "messages" in values or "conversations" in values:
        return _messages(values, as_chat)
    convert = _prompt_completion if "completion" in values else _alpaca
    return convert(values, as_chat)


def _preference(values: Mapping[str, _Value], as_chat: bool) -> Canonical:
    chosen, rejected = values["chosen"], values["rejected"]
    if chosen.value is None or rejected.value is None:
        raise Skipped(f"{(chosen if chosen.value is None else rejected).column} is null")
    if chosen.is_list and is_dialogue(chosen.value):
        return _dialogues(
            values, messages(chosen.value, "chosen"), messages(rejected.value, "rejected")
        )
    prompt = _pair_prompt(values)
    if prompt is None:
        better, worse = chosen.text(), rejected.text()
        if not (is_hh(better) and is_hh(worse)):
            raise WrongType(
                "chosen and rejected have no prompt, and are no dialogues that begin with "
                '"\\n\\nHuman: "'
            )
        return _dialogues(values, hh_messages(better), hh_messages(worse))
    if isinstance(prompt, str) and not (chosen.is_list or rejected.is_list or as_chat):
        return _plain_pair(prompt, chosen.text(), rejected.text())
    if isinstance(prompt, str):
        prompt = [*_system(values), {"role": "user", "content": prompt}]
    return _chat_pair(prompt, _turns(chosen, "assistant"), _turns(rejected, "assistant"), values)


def _pair_prompt(values: Mapping[str, _Value]) -> str | list[Message] | None:
    """What stands before both answers; None where each holds a whole dialogue."""
    for role in ("conversations", "messages"):
        if role in values:
            dialogue = values[role]
            return [*_system(values), *messages(dialogue.value, dialogue.column)]
    if "instruction" in values:
        return _alpaca_prompt(values)
    if "prompt" not in values:
        return None
    prompt = values["prompt"]
    if prompt.is_list:
        return [*_system(values), *messages(prompt.value, prompt.column)]
    return prompt.text()


def _dialogues(
    values: Mapping[str, _Value], chosen: list[Message], rejected: list[Message]
) -> Canonical:
    """A pair given as two whole dialogues: they may differ in the last message only."""
    if chosen == rejected:
        raise Skipped("chosen equals rejected")
    if len(chosen) != len(rejected) or chosen[:-1] != rejected[:-1]:
        raise Skipped("chosen and rejected differ before the last answer")
    return _chat_pair([*_system(values), *chosen[:-1]], chosen[-1:], rejected[-1:], values)


def _plain_pair(prompt: str, chosen: str, rejected: str) -> PlainPair:
    if not chosen.strip() or not rejected.strip():
        raise Skipped("empty answer")
    if chosen == rejected:
        raise Skipped("chosen equals rejected")
    return PlainPair(prompt, chosen, rejected)


def _chat_pair(
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    values: Mapping[str, _Value],
) -> ChatPair:
    if chosen == rejected:
        raise Skipped("chosen equals rejected")
    for answer in (chosen, rejected):
        _check_answers(answer, 0)
    if not prompt:
        raise Skipped("no prompt")
    return ChatPair(prompt, chosen, rejected, _tools(values))


def _chat(turns: list[Message], values: Mapping[str, _Value], *, answer: int) -> Chat:
    _check_answers(turns, answer)
    return Chat(turns, answer, _tools(values))


def _check_answers(turns: Sequence[Message], begin: int) -> None:
    answers = [turn for turn in turns[begin:] if turn["role"] == "assistant"]
    if not answers:
        raise Skipped("no assistant message")
    if any(not turn["content"].strip() and not turn.get("tool_calls") for turn in answers):
        raise Skipped("empty answer")


def _system(values: Mapping[str, _Value]) -> list[Message]:
    text = _absent(values, "system").text(required=False)
    return [{"role": "system", "content": text}] if text.strip() else []


def _assistant(value: _Value) -> Message:
    return {"role": "assistant", "content": value.text()}


def _turns(value: _Value, role: str) -> list[Message]:
    """A list of messages, one message, or a text as a message of `role`."""
    if value.is_list:
        return messages(value.value, value.column)
    if isinstance(value.value, dict):
        return messages([value.value], value.column)
    return [{"role": role, "content": value.text()}]


def _tools(values: Mapping[str, _Value]) -> list[Any] | None:
    """Tool definitions: a list, or its JSON text; None where there are none."""
    tools = _absent(values, "tools").value
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise WrongType(f"column tools is not valid JSON: {error}") from None
    if isinstance(tools, dict):
        tools = [tools]
    if tools and not isinstance(tools, list):
        raise WrongType(f"column tools holds {kind(tools)}, expected a list")
    return [_function(tool) for tool in tools] if tools else None


def _function(tool: Any) -> Any:
    """A tool in the form templates expect: {"type": "function", "function": {...}}."""
    if isinstance(tool, dict) and "name" in tool and "function" not in tool:
        return {"type": "function", "function": tool}
    return tool


_CONVERTERS: dict[str, Callable[[Mapping[str, _Value], bool], Canonical]] = {
    "text": _text,
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _messages,
    "prompt_completion": _prompt_completion,
    "kto": _kto,
    "preference": _preference,
}
