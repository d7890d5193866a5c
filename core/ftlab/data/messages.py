"""One dialogue as {role, content} messages, from the ways in which data sets write dialogues.

A row that cannot teach anything raises `Skipped` with the reason, which is counted and said. A row
whose value has the wrong type raises `WrongType`, which becomes an error with file and line.
"""

from __future__ import annotations

import json
import re
from typing import Any

Message = dict[str, Any]

_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_CALLS = ("function_call", "tool_call")
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_KINDS = {type(None): "null", str: "text", bool: "true or false", int: "a number"}


class Skipped(Exception):
    """A row that is left out; the message is the reason that is counted."""


class WrongType(Exception):
    """A value that is not what its column holds; the message names the column."""


def messages(value: Any, column: str) -> list[Message]:
    """A dialogue as {role, content} messages, from {role, content} or {from, value} objects.

    A single object is a dialogue of one message. Other keys, such as tool_calls, are kept, but for
    those that are null.
    """
    if isinstance(value, dict):
        value = [value]
    if value is None:
        raise Skipped(f"{column} is null")
    if not isinstance(value, list):
        raise WrongType(f"column {column!r} holds {kind(value)}, expected a list of messages")
    if not value:
        raise Skipped(f"{column} is empty")
    return [_message(item, column) for item in value]


def _message(item: Any, column: str) -> Message:
    if not isinstance(item, dict):
        raise WrongType(f"column {column!r} has a message that is {kind(item)}, expected an object")
    turn = {key: value for key, value in item.items() if value is not None}
    said = turn.pop("from", None) or turn.get("role")
    role = _ROLES.get(str(said).lower())
    if role is None:
        raise WrongType(
            f"column {column!r} has a message of role {said!r}; known are {', '.join(_ROLES)}"
        )
    content = turn.pop("value", None) if "content" not in turn else turn["content"]
    turn = {"role": role, **{k: v for k, v in turn.items() if k not in ("role", "content")}}
    turn["content"] = _content(content, column)
    if said in _CALLS:
        turn["tool_calls"] = _calls(turn["content"], column)
        turn["content"] = ""
    return turn


def _content(content: Any, column: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        if any(part.get("type", "text") != "text" for part in content):
            raise Skipped("a message holds more than text")
        return "".join(str(part.get("text", "")) for part in content)
    raise WrongType(f"column {column!r} has a message content that is {kind(content)}")


def _calls(text: str, column: str) -> list[Any]:
    """ShareGPT's function_call: JSON of one call, or of several."""
    try:
        calls = json.loads(text)
    except ValueError:
        raise Skipped("a function call is not valid JSON") from None
    found = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and "name" in call for call in found):
        raise Skipped("a function call has no name")
    return [
        {
            "type": "function",
            "function": {"name": call["name"], "arguments": call.get("arguments", {})},
        }
        for call in found
    ]


def is_hh(text: str) -> bool:
    """Whether a text is a dialogue of the HH-RLHF kind."""
    return _HH_TURN.match(text) is not None


def hh_messages(text: str) -> list[Message]:
    """A dialogue of the HH-RLHF kind: turns begin with "\\n\\nHuman: " and "\\n\\nAssistant: "."""
    parts = _HH_TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.removeprefix(" ")}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def without_nulls(value: Any) -> Any:
    """A JSON value without keys that are null, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def is_dialogue(value: Any) -> bool:
    """Whether a list of messages begins with a person's turn, so that it holds the prompt, too."""
    first = value[0] if value else None
    said = (first.get("from") or first.get("role")) if isinstance(first, dict) else None
    return _ROLES.get(str(said).lower()) in ("user", "system")


def kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    named = _KINDS.get(type(value))
    shown = repr(value) if isinstance(value, (int, float)) else type(value).__name__
    return f"{named or 'a value'} ({shown})"
