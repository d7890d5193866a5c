"""Which settings have no effect in a config, and why: one table for the rules and the writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ftlab.schema import RunConfig

LOCAL_PREFIXES = ("/", "./", "../", "~")
LOCAL_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")


@dataclass(frozen=True, slots=True)
class Inactive:
    """Settings that have no effect while `when(config)` holds."""

    name: str
    paths: tuple[str, ...]
    reads: tuple[str, ...]  # settings the condition depends on
    when: Callable[[RunConfig], bool]
    reason: str


def has_eval(config: RunConfig) -> bool:
    """Whether any evaluation data is configured."""
    return config.data.eval_source is not None or config.data.eval_fraction > 0


def looks_local(name: str) -> bool:
    """Whether a name can only be a path on this machine."""
    return name.startswith(LOCAL_PREFIXES)


def _of(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)


_CONTAINER = (("image", None), ("network", "auto"), ("shm_size", "1GiB"), ("memory", None))

INACTIVE: tuple[Inactive, ...] = (
    Inactive(
        "adapter-settings-without-adapter",
        (
            *_of("adapter", "r", "lora_alpha", "lora_dropout", "target_modules", "bias"),
            *_of("adapter", "use_rslora", "use_dora", "modules_to_save"),
            "optim.loraplus_lr_ratio",
        ),
        ("adapter.kind",),
        lambda c: c.adapter.kind == "none",
        "adapter.kind is none, so every weight is trained and there is no adapter",
    ),
    Inactive(
        "dpo-settings-with-sft",
        _of("method", "beta", "loss_type", "reference"),
        ("method.kind",),
        lambda c: c.method.kind == "sft",
        "it belongs to dpo, and method.kind is sft",
    ),
    Inactive(
        "train-on-completions-of-text",
        ("data.train_on",),
        ("data.format", "data.train_on"),
        lambda c: c.data.format == "text" and c.data.train_on == "completions",
        "plain text has no answers, so every token is trained",
    ),
    Inactive(
        "template-of-text",
        ("data.chat_template",),
        ("data.format",),
        lambda c: c.data.format == "text",
        "plain text is trained as it is, without a chat template",
    ),
    Inactive(
        "eval-every-without-eval-data",
        ("train.eval_every",),
        ("data.eval_source", "data.eval_fraction", "train.eval_every"),
        lambda c: not has_eval(c) and c.train.eval_every != 0,
        "there is nothing to evaluate on: give data.eval_source or data.eval_fraction",
    ),
    Inactive(
        "samples-without-evaluation",
        ("train.samples",),
        ("data.eval_source", "data.eval_fraction", "train.eval_every", "train.samples"),
        lambda c: (not has_eval(c) or c.train.eval_every == 0) and c.train.samples != 0,
        "samples are answers to held-out prompts at each evaluation, and there is none",
    ),
    *(
        Inactive(
            f"{name}-without-docker",
            (f"launch.{name}",),
            ("launch.where", f"launch.{name}"),
            lambda c, name=name, default=default: (  # type: ignore[misc]
                getattr(c.launch, name) != default and c.launch.where != "docker"
            ),
            "it belongs to containers, and launch.where is not docker",
        )
        for name, default in _CONTAINER
    ),
    Inactive(
        "revision-of-a-folder",
        ("model.revision",),
        ("model.name", "model.revision"),
        lambda c: c.model.revision is not None and looks_local(c.model.name),
        "model.name is a local folder, which has no revisions",
    ),
    Inactive(
        "subset-of-a-file",
        ("data.subset",),
        ("data.source", "data.subset"),
        lambda c: c.data.subset is not None and c.data.source.endswith(LOCAL_SUFFIXES),
        "data.source is a file, and only hub data sets have subsets",
    ),
)
