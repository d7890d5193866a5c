"""Every cross-field rule has a case that breaks it and one that keeps it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ftlab import rules
from ftlab.errors import ConfigError
from ftlab.inactive import INACTIVE
from ftlab.schema import RunConfig


def build(settings: dict[str, Any]) -> RunConfig:
    """A RunConfig from dotted paths."""
    config = RunConfig()
    for path, value in {"model.name": "m", "data.source": "d", **settings}.items():
        section, name = path.split(".")
        changed = dataclasses.replace(getattr(config, section), **{name: value})
        config = dataclasses.replace(config, **{section: changed})
    return config


FULL = {"adapter.kind": "none"}
DOCKER = {"launch.where": "docker"}
DPO = {"method.kind": "dpo"}
EVAL = {"data.eval_fraction": 0.1}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip

# rule -> (breaking settings, path of the problem, words in it, keeping settings)
CASES: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "adapter-settings-without-adapter": (
        {**FULL, "adapter.r": 8}, "adapter.r", "adapter.kind is none", {"adapter.r": 8},
    ),
    "dpo-settings-with-sft": (
        {"method.beta": 0.2}, "method.beta", "method.kind is sft", {**DPO, "method.beta": 0.2},
    ),
    "train-on-completions-of-text": (
        {"data.format": "text", "data.train_on": "completions"},
        "data.train_on", "no answers", {"data.format": "text", "data.train_on": "all"},
    ),
    "template-of-text": (
        {"data.format": "text", "data.chat_template": "chatml"},
        "data.chat_template", "without a chat template",
        {"data.format": "messages", "data.chat_template": "chatml"},
    ),
    "eval-every-without-eval-data": (
        {"train.eval_every": 5}, "train.eval_every", "nothing to evaluate on",
        {**EVAL, "train.eval_every": 5},
    ),
    "samples-without-evaluation": (
        {**EVAL, "train.eval_every": 0, "train.samples": 2}, "train.samples", "held-out prompts",
        {**EVAL, "train.samples": 2},
    ),
    "image-without-docker": (
        {"launch.image": "x:1"}, "launch.image", "docker", {"launch.image": None},
    ),
    "network-without-docker": (
        {"launch.network": "host"}, "launch.network", "docker",
        {**DOCKER, "launch.network": "host"},
    ),
    "shm_size-without-docker": (
        {"launch.shm_size": "2GiB"}, "launch.shm_size", "docker",
        {**DOCKER, "launch.shm_size": "2GiB"},
    ),
    "memory-without-docker": (
        {"launch.memory": "2GiB"}, "launch.memory", "docker", {**DOCKER, "launch.memory": "2GiB"},
    ),
    "shm-size": (
        {**DOCKER, "launch.shm_size": "much"}, "launch.shm_size", "expected a size",
        {**DOCKER, "launch.shm_size": "64MiB"},
    ),
    "memory-limit": (
        {**DOCKER, "launch.memory": "much"}, "launch.memory", "expected a size",
        {**DOCKER, "launch.memory": "64GiB"},
    ),
    "revision-of-a-folder": (
        {"model.name": "./m", "model.revision": "main"}, "model.revision", "local folder",
        {"model.name": "a/m", "model.revision": "main"},
    ),
    "subset-of-a-file": (
        {"data.source": "d.jsonl", "data.subset": "main"}, "data.subset", "hub data sets",
        {"data.source": "a/d", "data.subset": "main"},
    ),
    "where-available": (
        {"launch.where": "slurm"}, "launch.where", "not available in this version", {},
    ),
    "processes": (
        {"launch.processes": 2}, "launch.processes", "share the CPU",
        {"launch.processes": 2, "launch.devices": []},
    ),
    "shares": (
        {"launch.devices": 4, "train.batch_size": 3}, "train.batch_size", "shared by 4 processes",
        {"launch.devices": 4, "train.batch_size": 4},
    ),
    "devices": (
        {"launch.devices": [1, 1]}, "launch.devices", "trains once", {"launch.devices": [1, 0]},
    ),
    "eval-once": (
        {**EVAL, "data.eval_source": "e"}, "data.eval_fraction", "only one of them",
        {"data.eval_source": "e"},
    ),
    "warmup-whole": (
        {"optim.warmup": 2.5}, "optim.warmup", "whole number of steps", {"optim.warmup": 0.5},
    ),
    "warmup-length": (
        {"optim.warmup": 10.0, "train.max_steps": 10}, "optim.warmup", "train.max_steps is 10",
        {"optim.warmup": 9.0, "train.max_steps": 10},
    ),
    "log-every-within-run": (
        {"train.log_every": 11, "train.max_steps": 10}, "train.log_every", "more than the whole",
        {"train.log_every": 10, "train.max_steps": 10},
    ),
    "eval-every-within-run": (
        {**EVAL, "train.eval_every": 11, "train.max_steps": 10}, "train.eval_every", "11 steps",
        {**EVAL, "train.eval_every": 10, "train.max_steps": 10},
    ),
    "save-every-within-run": (
        {"train.save_every": 11, "train.max_steps": 10}, "train.save_every", "11 steps",
        {"train.save_every": 10, "train.max_steps": 10},
    ),
    "keep": (
        {"train.keep": 3, "train.save_every": 5, "train.max_steps": 10}, "train.keep",
        "only 2 checkpoint", {"train.keep": 3, "train.save_every": 4, "train.max_steps": 10},
    ),
    "micro-batch": (
        {"train.micro_batch_size": 17}, "train.micro_batch_size", "train.batch_size (16)",
        {"train.micro_batch_size": 16},
    ),
    "quantised-full": (
        {**FULL, "model.precision": "nf4"}, "model.precision", "frozen",
        {**FULL, "model.precision": "bf16"},
    ),
    "reference": (
        {**FULL, **DPO, "method.reference": "adapter_off"}, "method.reference", "no adapter",
        {**FULL, **DPO, "method.reference": "precomputed"},
    ),
    "format-fits-method": (
        {**DPO, "data.format": "alpaca"}, "data.format", "format: preference",
        {**DPO, "data.format": "preference"},
    ),
    "train-on-dpo": (
        {**DPO, "data.train_on": "all"}, "data.train_on", "dpo compares answers", DPO,
    ),
    "column-roles": (
        {"data.format": "alpaca", "data.columns": {"instructoin": "q"}}, "data.columns",
        "did you mean instruction?",
        {"data.format": "alpaca", "data.columns": {"instruction": "q", "system": "s"}},
    ),
    "column-names": (
        {"data.columns": {"prompt": "q", "completion": "q"}}, "data.columns", "used for both",
        {"data.columns": {"prompt": "q", "completion": "a"}},
    ),
    "targets": (
        {"adapter.target_modules": []}, "adapter.target_modules", "at least one",
        {"adapter.target_modules": ["q_proj"]},
    ),
    "saved-modules": (
        {"adapter.target_modules": ["lm_head"], "adapter.modules_to_save": ["lm_head"]},
        "adapter.modules_to_save", "adapter.target_modules too",
        {"adapter.modules_to_save": ["lm_head"]},
    ),
    "rope-scaling": (
        {"model.rope_scaling": {"rope_type": "linear"}}, "model.rope_scaling", "needs factor",
        {"model.rope_scaling": LLAMA3},
    ),
}  # fmt: skip


def test_every_rule_has_a_case_and_no_case_is_left_over() -> None:
    assert sorted(CASES) == sorted(rules.table())
    assert len(rules.table()) == 35


@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_reported(name: str) -> None:
    breaking, path, words, _ = CASES[name]
    found = rules.check(build(breaking), frozenset(breaking))
    assert [problem.path for problem in found] == [path]
    assert words in str(found[0])


@pytest.mark.parametrize("name", CASES)
def test_a_kept_rule_is_silent(name: str) -> None:
    keeping = CASES[name][3]
    assert rules.check(build(keeping), frozenset(keeping)) == ()


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_skipped_when_what_it_reads_is_already_wrong(name: str) -> None:
    breaking, path, _, _ = CASES[name]
    tables: list[Any] = [*INACTIVE, *rules.RULES]
    reads = next(entry.reads for entry in tables if entry.name == name)
    for read in {*reads, path}:
        assert rules.check(build(breaking), frozenset(breaking), {read}) == ()
        assert rules.check(build(breaking), frozenset(breaking), {read.split(".")[0]}) == ()


def test_a_default_that_was_not_given_is_never_refused() -> None:
    text = build({"data.format": "text", **FULL})
    assert rules.check(text, frozenset({"data.format", "adapter.kind"})) == ()


def test_without_given_what_differs_from_the_default_counts() -> None:
    assert rules.check(build(FULL)) == ()
    assert len(rules.check(build({**FULL, "adapter.r": 8, "adapter.use_dora": True}))) == 2


def test_all_problems_are_collected_and_raised() -> None:
    wrong = {"model.precision": "int8", "launch.where": "slurm", "method.beta": 1.0}
    config = build({**FULL, **wrong})
    with pytest.raises(ConfigError) as caught:
        rules.require(config)
    assert len(caught.value.problems) == 3
    rules.require(build({}))


def test_inactive_settings_carry_their_reason() -> None:
    silent = rules.inactive(build(FULL))
    assert "adapter.kind is none" in silent["adapter.lora_dropout"]
    assert "method.kind is sft" in silent["method.beta"]
    assert "adapter.kind" not in silent


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"launch.devices": [-1]}, "start at 0"),
        ({"data.format": "preference"}, "sft learns from single answers"),
        ({**DPO, "data.format": "kto"}, "dpo learns from pairs"),
        ({"data.columns": {"prompt": " "}}, "is empty"),
        ({"data.columns": {"zzz": "q"}}, "no such role for format auto: 'zzz'; roles are"),
        ({"data.format": "text", "data.columns": {"prompt": "q"}}, "roles are text"),
        ({"adapter.target_modules": ["a", "a"]}, "listed twice"),
        ({"adapter.target_modules": ["a", ""]}, "a name is empty"),
        ({"adapter.modules_to_save": ["lm_head", "lm_head"]}, "listed twice"),
        ({"model.rope_scaling": {}}, "got none"),
        ({"model.rope_scaling": {"type": "lineer", "factor": 2}}, "got 'lineer'"),
        ({"model.rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a number"),
        ({"model.rope_scaling": {"type": "linear", "factor": True}}, "factor must be a number"),
    ],
)
def test_other_ways_to_break_a_rule(settings: dict[str, Any], words: str) -> None:
    found = rules.check(build(settings), frozenset(settings))
    assert len(found) == 1
    assert words in str(found[0])
