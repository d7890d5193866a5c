"""Writing a config: what is written reads back as the same config."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from ftlab import config, configtext, presets, rules, yamltext
from ftlab.schema import RunConfig, settings

AWKWARD = [
    "plain",
    "with space",
    "on",
    "off",
    "yes",
    "null",
    "true",
    "12",
    "1e5",
    "-x",
    "a: b",
    "#c",
    "~",
    "",
    " ",
    "it's",
    'say "hi"',
    "back\\slash",
    "tab\there",
    "new\nline",
    "é",
    "日本",
    "\x00",
    "\x85",
    "\u2028",
    "train[:10]",
    "./a/b",
    "/a",
    "~/x",
    "=",
    ".",
    "-",
    "1:30",
    "@x",
    "{a}",
    "\x7f",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_text_round_trips(text: str) -> None:
    written = configtext.flow(text)
    assert yamltext.read(f"a: {written}\n", "x").value == {"a": text}
    assert yamltext.read(f"a: [{written}, {{b: {written}}}]\n", "x").value["a"][0] == text


def test_dump_omits_what_has_no_effect_and_reads_back() -> None:
    parsed = config.parse("model: m\ndata: {source: d, format: text}\nadapter: {kind: none}\n")
    text = config.dump(parsed)
    assert "beta" not in text
    assert "lora_alpha" not in text
    assert config.parse(text) == parsed


@pytest.mark.parametrize("name", presets.names())
def test_presets_read_back(name: str) -> None:
    parsed = config.parse(presets.text(name))
    assert config.parse(config.dump(parsed)) == parsed
    assert config.parse(config.commented(name)) == parsed


def test_random_configs_read_back() -> None:
    rng = random.Random(0)
    kept = 0
    for _ in range(200):
        candidate = _random_config(rng)
        if not rules.check(candidate):
            kept += 1
            assert config.parse(config.dump(candidate)) == candidate
    assert kept >= 20


def _random_config(rng: random.Random) -> RunConfig:
    result = RunConfig()
    for setting in settings():
        if not setting.required and rng.random() > 0.15:
            continue
        options: list[Any] = [*setting.choices, *setting.examples]
        if setting.nullable:
            options.append(None)
        if int in setting.members:
            options.append(int(setting.minimum or 0) + 1)
        if float in setting.members:
            options.append((setting.minimum or 0) + 0.1)
        if bool in setting.members:
            options += [True, False]
        if options:
            section = getattr(result, setting.section)
            changed = dataclasses.replace(section, **{setting.name: rng.choice(options)})
            result = dataclasses.replace(result, **{setting.section: changed})
    return result


def test_commented_names_every_setting_with_its_help_and_range() -> None:
    text = config.commented("standard")
    for setting in settings():
        assert f" {setting.name}: " in text, setting.path
    assert "Unit: tokens." in text
    assert "Allowed: a whole number from 1 to 1024." in text
    assert max(map(len, text.splitlines())) <= 100
