"""The config being made: what is given so far, its problems, its YAML, the preset's difference.

Only what a person or preset gave is kept, because a setting without effect is refused when it is
given. Pure; the rules are those of `ftlab.config`, so the form and `ftrun` always agree.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftlab import config, rules, values, yamltext
from ftlab.configtext import flow
from ftlab.errors import ConfigError, Problem
from ftlab.schema import RunConfig, sections, settings
from ftlab.setting import Setting

SETTINGS: dict[str, Setting] = {setting.path: setting for setting in settings()}
FREE = ("model.name", "model.revision", "data.source", "data.split", "data.subset",
        "data.eval_source")  # fmt: skip


@dataclass
class Draft:
    """A config under construction.

    Attributes:
        given: section -> setting -> value.
        wrong: dotted path -> what is wrong with the text that stands in its field.
        base: the same as `given` was when the preset was taken, for the difference.
        preset: name of the preset, recipe or run it began with.
    """

    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: dict[str, Problem] = field(default_factory=dict)
    base: dict[str, dict[str, Any]] = field(default_factory=dict)
    preset: str = ""

    def take(self, mapping: Mapping[str, Any], name: str, *, keep: bool = True) -> None:
        """Begin with a preset, recipe or run; with `keep`, model and data chosen so far stay."""
        kept = {path: self.get(path) for path in FREE if keep and self.has(path)}
        self.given = plain(mapping)
        if "model.name" in kept:
            self.unset("model.revision")
        if "data.source" in kept:
            for path in ("data.split", "data.subset", "data.eval_source", "data.columns"):
                self.unset(path)
        self.wrong, self.preset = {}, name
        for path, value in kept.items():
            self.set(path, value)
        self.base = copy.deepcopy(self.given)

    def has(self, path: str) -> bool:
        """Whether the setting is given."""
        section, name = path.split(".")
        return name in self.given.get(section, {})

    def get(self, path: str) -> Any:
        """The value as it stands: given, or the default."""
        section, name = path.split(".")
        return self.given.get(section, {}).get(name, SETTINGS[path].default)

    def set(self, path: str, value: Any) -> None:
        """Give a value."""
        section, name = path.split(".")
        self.wrong.pop(path, None)
        self.given.setdefault(section, {})[name] = value

    def unset(self, path: str) -> None:
        """Back to the default."""
        section, name = path.split(".")
        self.wrong.pop(path, None)
        self.given.get(section, {}).pop(name, None)

    def type(self, path: str, text: str) -> None:
        """Take what was typed into a field; "" is the default. What is wrong is kept beside it."""
        if not text.strip():
            self.unset(path)
            return
        setting = SETTINGS[path]
        try:
            value = text if setting.annotation is str else yamltext.read(text, path).value
        except ConfigError as error:
            self.wrong[path] = Problem(path, error.problems[0].message, error.problems[0].hint)
            return
        if value is None and not setting.nullable:
            value = text
        checked, problem = values.check(setting, value)
        if problem is None:
            self.set(path, checked)
        else:
            self.wrong[path] = problem

    def read(self) -> tuple[RunConfig | None, dict[str, Problem]]:
        """The config, or None; and every problem by path."""
        try:
            made = config.from_mapping(self.given)
            found: dict[str, Problem] = {}
        except ConfigError as error:
            made = None
            found = {}
            for problem in error.problems:
                found.setdefault(problem.path, problem)
        found.update(self.wrong)
        return (made if not found else None), found

    def inactive(self) -> dict[str, str]:
        """Settings that have no effect as things stand, each with the reason."""
        cleaned = {
            section: {
                name: value
                for name, value in given.items()
                if f"{section}.{name}" not in self.wrong
            }
            for section, given in self.given.items()
        }
        cleaned.setdefault("model", {}).setdefault("name", "x")
        cleaned.setdefault("data", {}).setdefault("source", "x")
        built = {
            section: cls(**{n: v for n, v in cleaned.get(section, {}).items()})
            for section, cls in sections().items()
        }
        return rules.inactive(RunConfig(**built))

    def drop_inactive(self) -> None:
        """Forget given settings that lost their effect through another choice."""
        for path in self.inactive():
            self.unset(path)

    def yaml(self) -> str:
        """The file as `ftrun train` takes it: what is given, in the order of the schema."""
        lines: list[str] = [f"# from {self.preset}"] if self.preset else []
        for section in sections():
            given = self.given.get(section, {})
            if not given:
                continue
            lines.append(f"{section}:")
            for setting in settings():
                if setting.section == section and setting.name in given:
                    lines.append(f"  {setting.name}: {flow(given[setting.name])}")
        return "\n".join(lines) + "\n"

    def difference(self) -> list[tuple[str, str, str]]:
        """(path, value of the preset, value here) where they differ; model and data apart."""
        found = []
        before = Draft(given=self.base)
        for path in SETTINGS:
            old, new = before.get(path), self.get(path)
            if old != new and path not in ("model.name", "data.source"):
                found.append((path, flow(old), flow(new)))
        return found


def plain(mapping: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A config's mapping with the shorthand `model: X` spelled out; unknown shapes are left out."""
    result: dict[str, dict[str, Any]] = {}
    for section in sections():
        value = mapping.get(section)
        if isinstance(value, Mapping):
            result[section] = dict(copy.deepcopy(value))
        elif value is not None and section in config.SHORTHAND:
            result[section] = {config.SHORTHAND[section]: value}
    return result
