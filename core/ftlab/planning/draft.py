"""A plan while it is being made: the config so far, decisions, warnings and reasons to refuse."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ftlab.errors import ConfigError, EnvironmentUnfit, Problem
from ftlab.facts import Facts
from ftlab.models.spec import DecoderSpec
from ftlab.planning.types import WORLD_SIZE, Decision
from ftlab.rules import value_of
from ftlab.schema import RunConfig


@dataclass
class Draft:
    """Mutable while `plan.resolve` runs; nothing of it outlives the call."""

    config: RunConfig
    facts: Facts
    spec: DecoderSpec
    decisions: dict[str, Decision] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    wrong: list[Problem] = field(default_factory=list)  # the config cannot be meant like this
    unfit: list[Problem] = field(default_factory=list)  # this machine or model cannot do it

    def decide(self, name: str, value: Any, reason: str) -> None:
        """Record a choice; a setting's path also changes the config."""
        self.decisions[name] = Decision(value, reason)
        section, _, setting = name.partition(".")
        if setting:
            part = dataclasses.replace(getattr(self.config, section), **{setting: value})
            self.config = dataclasses.replace(self.config, **{section: part})

    @property
    def world_size(self) -> int:
        """Training processes, once that is decided."""
        return int(self.decided(WORLD_SIZE)) if WORLD_SIZE in self.decisions else 1

    def is_auto(self, path: str) -> bool:
        """Whether a setting is still "auto"."""
        return bool(value_of(self.config, path) == "auto")

    def decided(self, name: str) -> Any:
        """The value of a decision that was made before."""
        return self.decisions[name].value

    def refuse_config(self, path: str, message: str, hint: str = "") -> None:
        """Add a reason why the config cannot be meant like this."""
        self.wrong.append(Problem(path, message, hint))

    def refuse_here(self, path: str, message: str, hint: str = "") -> None:
        """Add a reason why this machine or model cannot do what is asked."""
        self.unfit.append(Problem(path, message, hint))

    @property
    def refused(self) -> bool:
        """Whether any reason to refuse was found so far."""
        return bool(self.wrong or self.unfit)

    def raise_refusals(self) -> None:
        """Raise with every reason; do nothing when there is none."""
        if self.refused:
            self._raise()

    def _raise(self) -> NoReturn:
        if self.wrong:
            raise ConfigError([*self.wrong, *self.unfit])
        raise EnvironmentUnfit("\n".join(str(problem) for problem in self.unfit))
