"""Read a config: YAML or a mapping becomes a RunConfig, or one error with every problem in it.

The first of the two gates before a run: shape, names, types and ranges here, and the cross-field
rules of `ftlab.rules`. No file but the config is opened and no device is touched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftlab import configtext, presets, rules, values, yamltext
from ftlab.configtext import dump
from ftlab.errors import ConfigError, Problem
from ftlab.schema import RunConfig, sections, settings
from ftlab.setting import Setting

__all__ = ["apply_overrides", "commented", "dump", "from_mapping", "load", "parse"]

SHORTHAND = {"model": "name", "data": "source"}  # `model: X` means `model: {name: X}`
# What other trainers call a setting -> what it is called here.
FOREIGN = {
    "lr": "optim.learning_rate",
    "dataset": "data.source",
    "max_seq_length": "model.max_length",
    "load_in_4bit": "model.precision",
    "load_in_8bit": "model.precision",
    "dtype": "model.precision",
    "rank": "adapter.r",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.batch_size",
    "gradient_checkpointing": "memory.checkpointing",
    "lr_scheduler_type": "optim.schedule",
    "warmup_ratio": "optim.warmup",
    "warmup_steps": "optim.warmup",
    "logging_steps": "train.log_every",
    "eval_steps": "train.eval_every",
    "save_steps": "train.save_every",
    "save_total_limit": "train.keep",
    "optimizer": "optim.name",
}
SMALLEST = "the smallest config is two lines, `model: NAME` and `data: SOURCE`"


def load(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config file and apply `--set` overrides.

    Raises:
        ConfigError: the file cannot be read, or every problem found in it.
    """
    text = _read_text(Path(path))
    return parse(text, str(path), overrides)


def parse(text: str, source_name: str = "config", overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config from YAML text; `source_name` is what messages call it.

    Raises:
        ConfigError: not YAML (with line and column), or every problem found.
    """
    document = yamltext.read(text, source_name)
    if document.value is None:
        raise ConfigError([Problem("", f"{source_name} is empty", SMALLEST)])
    if not isinstance(document.value, Mapping):
        kind = "a list" if isinstance(document.value, list) else "a single value"
        raise ConfigError([Problem("", f"{source_name} is {kind}, not a mapping", SMALLEST)])
    return from_mapping(apply_overrides(document.value, overrides), document.lines)


def from_mapping(mapping: Mapping[str, Any], lines: Mapping[str, int] | None = None) -> RunConfig:
    """Build a RunConfig from nested mappings such as `{"model": {"name": ...}, ...}`.

    Args:
        mapping: section -> setting -> value; the shorthand `model: X` and `data: X` is accepted.
        lines: line of each dotted key, for the messages.

    Raises:
        ConfigError: every problem of shape and every broken cross-field rule.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError([Problem("", f"expected a mapping, got {values.shown(mapping)}")])
    reader = _Reader(lines or {})
    built = {name: reader.section(name, mapping) for name in sections()}
    reader.unknown_sections(mapping)
    config = RunConfig(**built)
    broken = {problem.path for problem in reader.problems}
    problems = [*reader.problems, *rules.check(config, frozenset(reader.given), broken)]
    if problems:
        raise ConfigError(problems)
    return config


def commented(preset: str = "standard") -> str:
    """The commented config of a preset: every setting with help, unit, range and default."""
    title = f"ftlab config from the preset {preset!r}. {presets.description(preset)}"
    return configtext.commented(presets.mapping(preset), title)


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of the mapping with `a.b=c` overrides applied; `c` is read as YAML.

    Raises:
        ConfigError: every override that is not of the form `section.setting=value`.
    """
    result: dict[str, Any] = copy.deepcopy(dict(mapping))
    problems: list[Problem] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or not all(parts):
            problems.append(
                Problem("", f"cannot use --set {override!r}", "write --set section.setting=value")
            )
            continue
        try:
            _assign(result, parts, yamltext.read(text, f"--set {path.strip()}").value)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return result


def _assign(mapping: dict[str, Any], parts: list[str], value: Any) -> None:
    """Set mapping[a][b]... = value; a scalar on the way is the shorthand and becomes a mapping."""
    if len(parts) == 1 and parts[0] in SHORTHAND and not isinstance(value, Mapping):
        parts = [parts[0], SHORTHAND[parts[0]]]
    target = mapping
    for depth, part in enumerate(parts[:-1]):
        inner = target.get(part)
        if depth == 0 and part in SHORTHAND and inner is not None and not isinstance(inner, dict):
            inner = {SHORTHAND[part]: inner}
        target[part] = inner if isinstance(inner, dict) else {}
        target = target[part]
    target[parts[-1]] = value


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        hint = "`ftrun init > config.yaml` writes one to start from"
        raise ConfigError([Problem("", f"there is no config file {str(path)!r}", hint)]) from None
    except IsADirectoryError:
        raise ConfigError(f"{str(path)!r} is a folder, not a config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


class _Reader:
    """Walks the mapping by the schema; collects problems and the paths that were given."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self.lines = lines
        self.problems: list[Problem] = []
        self.given: set[str] = set()
        self.by_section: dict[str, dict[str, Setting]] = {name: {} for name in sections()}
        for setting in settings():
            self.by_section[setting.section][setting.name] = setting

    def section(self, name: str, mapping: Mapping[str, Any]) -> Any:
        """The dataclass of one section, with defaults where the mapping is wrong or silent."""
        known = self.by_section[name]
        content = self._content(name, mapping.get(name))
        result: dict[str, Any] = {}
        for key, value in content.items():
            setting = known.get(str(key))
            if setting is None:
                self.problems.append(self._unknown(name, str(key)))
                continue
            result[setting.name], problem = values.check(setting, value)
            self.given.add(setting.path)
            if problem:
                self.problems.append(self._placed(problem))
        self._missing(name, content)
        return sections()[name](**result)

    def unknown_sections(self, mapping: Mapping[str, Any]) -> None:
        """Report every top-level key that is no section."""
        for key in mapping:
            if key not in self.by_section:
                self.problems.append(self._unknown("", str(key)))

    def _content(self, name: str, value: Any) -> Mapping[str, Any]:
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return value
        if name in SHORTHAND and not isinstance(value, (list, tuple)):
            return {SHORTHAND[name]: value}
        hint = f"write {name}: {{{next(iter(self.by_section[name]))}: ...}}"
        got = f"expected a mapping of settings, got {values.shown(value)}"
        self.problems.append(self._placed(Problem(name, got, hint)))
        return {SHORTHAND[name]: "x"} if name in SHORTHAND else {}

    def _missing(self, name: str, content: Mapping[str, Any]) -> None:
        for setting in self.by_section[name].values():
            if setting.required and setting.name not in content:
                example = values.shown(setting.examples[0])
                self.problems.append(
                    Problem(setting.path, "required, but not given", f"such as {example}")
                )

    def _unknown(self, section: str, key: str) -> Problem:
        path = f"{section}.{key}" if section else key
        elsewhere = [s for s in self.by_section if s != section and key in self.by_section[s]]
        if key in FOREIGN:
            hint = f"it is called {FOREIGN[key]} here"
        elif elsewhere:
            hint = f"{key} belongs under {' or '.join(elsewhere)}"
        else:
            hint = self._nearest_hint(section, key)
        return self._placed(Problem(path, "unknown setting" if section else "unknown key", hint))

    def _nearest_hint(self, section: str, key: str) -> str:
        if section:
            own = values.nearest(key, self.by_section[section])
            if own:
                return f"did you mean {own}?"
        else:
            own = values.nearest(key, self.by_section)
            if own:
                return f"did you mean {own}?"
        paths = {name: f"{s}.{name}" for s, names in self.by_section.items() for name in names}
        other = values.nearest(key, paths, cutoff=0.7)
        if other:
            return f"did you mean {paths[other]}?"
        known = self.by_section[section] if section else self.by_section
        return f"known here: {', '.join(known)}"

    def _placed(self, problem: Problem) -> Problem:
        line = self.lines.get(problem.path)
        if line is None:
            return problem
        return Problem(problem.path, f"{problem.message} (line {line})", problem.hint)
