"""Check one value against its setting: type, range, choice; a misfit comes back as a Problem."""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ftlab.errors import Problem
from ftlab.setting import Setting

SIZE_PATTERN = r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGTkmgt]?i?[Bb])\s*"
SIZE = re.compile(SIZE_PATTERN)
UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")
SWITCH = {"on": True, "off": False, "yes": True, "no": False}
KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


class WrongValueError(Exception):
    """A value does not fit; carries what is wrong and what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


def parse_bytes(text: str) -> int:
    """Bytes of a size such as "12GiB", "800 MB" or "1.5gib". Raises ValueError for other text."""
    match = SIZE.fullmatch(text)
    if not match or match.group(2).lower() not in UNITS or float(match.group(1)) == 0:
        raise ValueError(f"expected a size such as 12GiB, 800MiB or 24GB, got {text!r}")
    return int(float(match.group(1)) * UNITS[match.group(2).lower()])


def nearest(name: object, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name that looks most like `name`, or None when none does."""
    candidates = {item.lower(): item for item in known}
    match = difflib.get_close_matches(str(name).lower(), candidates, n=1, cutoff=cutoff)
    return candidates[match[0]] if match else None


def shown(value: Any) -> str:
    """A value as a person would recognise it, quoted and shortened."""
    text = "null" if value is None else repr(value)
    if isinstance(value, bool):
        text = str(value).lower()
    return text if len(text) <= 80 else text[:77] + "..."


def allowed(setting: Setting) -> str:
    """What a setting accepts, as a phrase: "auto, or a whole number of tokens from 8"."""
    parts = [str(choice) for choice in setting.choices]
    for member in setting.members:
        if member is bool:
            parts += ["true", "false"]
        elif typing.get_origin(member) is not Literal:
            parts.append(_describe(member, setting))
    if setting.path == "memory.budget":
        parts = ["auto", "a size such as 12GiB"]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]


def _describe(member: Any, setting: Setting) -> str:
    if member in (int, float):
        unit = f" of {setting.unit}" if setting.unit else ""
        return KINDS[member] + unit + number_range(setting)
    origin = typing.get_origin(member)
    if origin is list:
        item = "whole numbers" if typing.get_args(member) == (int,) else "names"
        return f"a list of {item}"
    if origin is dict:
        return "a mapping such as " + (
            ", ".join(_flow(example) for example in setting.examples[:1]) or "{key: value}"
        )
    return KINDS[member]


def _flow(mapping: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in mapping.items()) + "}"


def number_range(setting: Setting) -> str:
    """The range of a number as a phrase with a leading space, "" without one."""
    low, high = setting.minimum, setting.maximum
    if low is None and high is None:
        return ""
    if low is not None and high is not None:
        above = "above" if setting.exclusive_minimum else "from"
        return f" {above} {low:g} to {_plain(high)}"
    if low is not None:
        return f" above {low:g}" if setting.exclusive_minimum else f" from {low:g}"
    return f" up to {_plain(high or 0)}"


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def check(setting: Setting, value: Any) -> tuple[Any, Problem | None]:
    """The value as the dataclass wants it, or the setting's default and what is wrong.

    Numbers are normalised (`1` for a float becomes 1.0, `1e3` for an int becomes 1000), `on` and
    `yes` are accepted for true, and `true` for a choice called `on`.
    """
    try:
        result = _convert(setting, value)
        _check_text(setting, result)
    except WrongValueError as wrong:
        return setting.default, Problem(setting.path, wrong.message, wrong.hint)
    return result, None


def _convert(setting: Setting, value: Any) -> Any:
    if value is None:
        return _null(setting)
    choices = setting.choices
    if isinstance(value, bool) and value not in choices and {"on", "off"} <= set(choices):
        return "on" if value else "off"
    if isinstance(value, str) and value in choices:
        return value
    wrongs: list[WrongValueError] = []
    for member in setting.members:
        if typing.get_origin(member) is Literal or member is type(None):
            continue
        try:
            return _member(member, value, setting)
        except WrongValueError as error:
            wrongs.append(error)
    for wrong in wrongs:
        if wrong.message:
            raise wrong
    raise WrongValueError(f"expected {allowed(setting)}, got {shown(value)}", _hint(setting, value))


def _null(setting: Setting) -> Any:
    if setting.nullable:
        return None
    if setting.required:
        raise WrongValueError("required, but empty", f"give {allowed(setting)}")
    raise WrongValueError(
        f"expected {allowed(setting)}, got nothing", "delete the line to keep the default"
    )


def _member(member: Any, value: Any, setting: Setting) -> Any:
    """The value as one alternative; WrongValueError("") means that it is of another type."""
    origin = typing.get_origin(member)
    if origin is list:
        return _list(typing.get_args(member)[0], value, setting)
    if origin is dict:
        return _dict(typing.get_args(member)[1], value, setting)
    if member is bool:
        if isinstance(value, str) and value.lower() in SWITCH:
            return SWITCH[value.lower()]
        if isinstance(value, bool):
            return value
    if member is str and isinstance(value, str):
        return value
    if member in (int, float):
        return _in_range(_number(member, value), value, setting)
    raise WrongValueError("")


def _number(member: type, value: Any) -> int | float:
    if isinstance(value, str) and EXPONENT.match(value):
        value = float(value)  # YAML 1.1 readers give 2e-4 as text
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongValueError("")
    if not math.isfinite(value):
        raise WrongValueError(f"expected a finite number, got {value}")
    if member is float:
        return float(value)
    if not float(value).is_integer():
        raise WrongValueError(f"expected a whole number, got {value!r}")
    return int(value)


def _in_range(number: int | float, value: Any, setting: Setting) -> int | float:
    low, high = setting.minimum, setting.maximum
    below = low is not None and (number < low or (setting.exclusive_minimum and number == low))
    if below or (high is not None and number > high):
        listed = any(typing.get_origin(member) is list for member in setting.members)
        hint = f"write [{number}]" if listed else ""
        raise WrongValueError(f"expected {allowed(setting)}, got {shown(value)}", hint)
    return number


def _list(item: type, value: Any, setting: Setting) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise WrongValueError("")
    for entry in value:
        if isinstance(entry, bool) or not isinstance(entry, item):
            raise WrongValueError(f"expected {allowed(setting)}, got {shown(entry)} in the list")
    return list(value)


def _dict(item: Any, value: Any, setting: Setting) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongValueError("")
    for key, entry in value.items():
        if not isinstance(key, str):
            raise WrongValueError(f"expected text as a key, got {shown(key)}")
        if item is str and not isinstance(entry, str):
            raise WrongValueError(
                f"expected text for {key!r}, got {shown(entry)}", "put it in quotes"
            )
    return dict(value)


def _hint(setting: Setting, value: Any) -> str:
    """What to do about a value of the wrong type."""
    close = nearest(value, map(str, setting.choices), cutoff=0.6)
    if close and isinstance(value, str):
        return f"did you mean {close}?"
    members = [typing.get_origin(member) or member for member in setting.members]
    if list in members and isinstance(value, (str, int)) and not isinstance(value, bool):
        return f"write [{value}]"
    if str in members and isinstance(value, (bool, int, float)):
        return f'put it in quotes: "{value}"'
    numeric = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value)
    if numeric and (int in members or float in members):
        return "remove the quotes"
    if bool in members and isinstance(value, str) and value.lower() in ("true", "false"):
        return "remove the quotes"
    return ""


def _check_text(setting: Setting, value: Any) -> None:
    """Text with a form of its own."""
    if isinstance(value, str) and not value.strip():
        hint = "" if setting.required else "delete the line to keep the default"
        raise WrongValueError(f"expected {allowed(setting)}, got empty text", hint)
    if setting.path == "memory.budget" and value != "auto":
        try:
            parse_bytes(value)
        except ValueError:
            raise WrongValueError(f"expected {allowed(setting)}, got {shown(value)}") from None
