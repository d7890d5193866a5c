"""What one setting is: how a section declares it, and how parser and generators see it."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal


def setting(
    default: Any,
    help: str,
    *,
    raising: str = "",
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: bool = False,
    simple: bool = False,
    required: bool = False,
    examples: tuple[Any, ...] = (),
) -> Any:
    """Declare one setting of a section dataclass.

    Args:
        default: value when the config does not mention the setting.
        help: one sentence that says what it is.
        raising: one sentence that says what a larger value does ("" for choices and names).
        unit: such as "tokens", "steps", "sequences"; "" for pure numbers.
        minimum, maximum: allowed range of a number, inclusive unless `exclusive_minimum`.
        simple: shown in the simple form; the rest is under "advanced".
        required: must be given by a person.
        examples: values for the JSON Schema and the docs where the default does not show the shape.
    """
    metadata = {
        "help": help,
        "raising": raising,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive_minimum": exclusive_minimum,
        "simple": simple,
        "required": required,
        "examples": examples,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as the generators and the parser see it."""

    path: str
    section: str
    name: str
    annotation: Any  # resolved type, such as `int | Literal["auto"]`
    default: Any
    help: str
    raising: str
    unit: str
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    simple: bool
    required: bool
    examples: tuple[Any, ...]

    @property
    def members(self) -> tuple[Any, ...]:
        """The alternatives: `int | Literal["auto"]` gives (int, Literal["auto"])."""
        if typing.get_origin(self.annotation) in (typing.Union, types.UnionType):
            return typing.get_args(self.annotation)
        return (self.annotation,)

    @property
    def choices(self) -> tuple[Any, ...]:
        """Every literal value that is allowed, in declaration order."""
        return tuple(
            value
            for member in self.members
            if typing.get_origin(member) is Literal
            for value in typing.get_args(member)
        )

    @property
    def nullable(self) -> bool:
        """Whether null is a value of its own."""
        return type(None) in self.members
