"""The one declaration of every setting: type, default, unit, range and what raising it does.

`--help`, the JSON Schema, `docs/settings.md`, the commented config of `ftrun init` and the form of
`ftui` are generated from the dataclasses below; nothing repeats them. Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ftlab.setting import Setting, setting

Auto = Literal["auto"]


@dataclass(frozen=True, slots=True)
class ModelSection:
    """The model to start from."""

    name: str = setting(
        "",
        "Hugging Face model id or a local folder with config.json and safetensors.",
        simple=True,
        required=True,
        examples=("HuggingFaceTB/SmolLM2-135M-Instruct", "models/my-model"),
    )
    revision: str | None = setting(
        None,
        "Branch, tag or commit on the hub; the resolved commit goes into the manifest.",
        examples=("main",),
    )
    precision: Literal["auto", "nf4", "int8", "bf16", "fp16", "fp32"] = setting(
        "auto",
        "How the base weights are held: nf4 is QLoRA, bf16 and fp16 are 16-bit LoRA or full "
        "fine-tuning, fp32 is the CPU's choice.",
        simple=True,
    )
    max_length: int | Auto = setting(
        "auto",
        "Longest sequence that is trained, prompt and answer together.",
        raising="Raise it and longer rows are kept, at more memory and time per row.",
        unit="tokens",
        minimum=8,
        simple=True,
    )
    rope_scaling: Auto | dict[str, Any] | None = setting(
        "auto",
        "auto takes the model's own; null turns scaling off; a mapping as in the model's "
        "config.json replaces it.",
        examples=({"rope_type": "linear", "factor": 2.0},),
    )
    trust_remote_code: bool = setting(
        False, "Run Python code that comes with the model; off unless you ask for it by name."
    )


@dataclass(frozen=True, slots=True)
class AdapterSection:
    """What is trained: a LoRA adapter, or every weight."""

    kind: Literal["lora", "none"] = setting(
        "lora",
        "lora trains a small adapter beside frozen weights; none trains every weight.",
        simple=True,
    )
    r: int = setting(
        16,
        "Rank of the LoRA matrices.",
        raising="Raise it and the adapter can learn more, at more memory and risk of overfitting.",
        minimum=1,
        maximum=1024,
        simple=True,
    )
    lora_alpha: float = setting(
        32.0,
        "Scale of the adapter: its output is multiplied by lora_alpha / r.",
        raising="Raise it and the adapter acts more strongly, like a higher learning rate.",
        minimum=0,
        exclusive_minimum=True,
    )
    lora_dropout: float = setting(
        0.0,
        "Share of the adapter's inputs that is zeroed in training.",
        raising="Raise it to fight overfitting on small data; learning becomes slower.",
        minimum=0,
        maximum=0.95,
    )
    target_modules: Literal["all-linear"] | list[str] = setting(
        "all-linear",
        "Projections that get an adapter: all-linear, or names such as q_proj, v_proj, down_proj.",
        examples=(["q_proj", "v_proj"],),
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none", "Which bias vectors are trained besides the adapter (PEFT's meaning)."
    )
    use_rslora: bool = setting(
        False, "Scale the adapter by lora_alpha / sqrt(r), which keeps high ranks stable."
    )
    use_dora: bool = setting(
        False, "Train a magnitude per output feature besides the direction (DoRA)."
    )
    modules_to_save: list[str] = setting(
        [],
        "Whole modules trained and saved besides the adapter, such as lm_head or embed_tokens.",
        examples=(["lm_head"],),
    )


@dataclass(frozen=True, slots=True)
class DataSection:
    """What is learned from."""

    source: str = setting(
        "",
        "Hub data set id, or a local JSONL, JSON, CSV, Parquet or text file or folder.",
        simple=True,
        required=True,
        examples=("data/train.jsonl", "tatsu-lab/alpaca"),
    )
    subset: str | None = setting(
        None, "Configuration name of a hub data set, such as main.", examples=("main",)
    )
    split: str = setting(
        "train",
        "Split to train on; slices such as train[:1000] are allowed.",
        examples=("train[:1000]",),
    )
    format: Literal[
        "auto", "alpaca", "messages", "sharegpt", "prompt_completion", "text", "preference", "kto"
    ] = setting("auto", "Shape of a row; auto looks at the columns and says why.", simple=True)
    columns: dict[str, str] = setting(
        {},
        "Maps a role to your column's name, such as {prompt: question, completion: answer}.",
        examples=({"prompt": "question", "completion": "answer"},),
    )
    chat_template: str = setting(
        "auto",
        "auto takes the tokenizer's own and falls back to chatml; tokenizer, chatml, alpaca, or "
        "the path of a Jinja file is taken as it says.",
        examples=("chatml", "templates/mine.jinja"),
    )
    eval_source: str | None = setting(
        None,
        "Separate evaluation data, same shape as source; SOURCE:SPLIT chooses a split.",
        examples=("data/eval.jsonl", "openai/gsm8k:test"),
    )
    eval_fraction: float = setting(
        0.0,
        "Share of source that is held out for evaluation when there is no eval_source.",
        raising="Raise it for a steadier evaluation; fewer rows are left for training.",
        minimum=0,
        maximum=0.9,
    )
    train_on: Literal["completions", "all"] = setting(
        "completions", "Tokens that carry loss: the answers only, or every token.", simple=True
    )
    packing: bool | Auto = setting(
        "auto",
        "Lay several short rows beside each other in one forward pass; rows never see each other "
        "and the rows of a step stay the same.",
    )
    overlong: Literal["drop", "truncate"] = setting(
        "truncate", "What happens to a row longer than max_length; the count is always said."
    )


@dataclass(frozen=True, slots=True)
class MethodSection:
    """How it is learned."""

    kind: Literal["sft", "dpo"] = setting(
        "sft", "sft imitates answers; dpo learns from chosen and rejected answers.", simple=True
    )
    beta: float = setting(
        0.1,
        "Strength of the pull towards the reference model (DPO).",
        raising="Raise it to stay closer to the reference model.",
        minimum=0,
        exclusive_minimum=True,
    )
    loss_type: Literal["sigmoid"] = setting("sigmoid", "Shape of the preference loss (DPO).")
    label_smoothing: float = setting(
        0.0,
        "Assumed share of wrong preference labels (DPO), or smoothing of the targets (SFT).",
        raising="Raise it when labels are noisy.",
        minimum=0,
        maximum=0.49,
    )
    reference: Literal["auto", "adapter_off", "precomputed"] = setting(
        "auto",
        "Where reference log-probabilities come from (DPO): the same weights with the adapter off, "
        "or one pass over all pairs before the first step, which full fine-tuning needs.",
    )


@dataclass(frozen=True, slots=True)
class OptimSection:
    """How weights are updated."""

    name: Literal["auto", "adamw", "adamw_8bit"] = setting(
        "auto", "adamw keeps 32-bit state; adamw_8bit quarters it through bitsandbytes."
    )
    learning_rate: float | Auto = setting(
        "auto",
        "Peak step size; auto is 2e-4 for LoRA SFT, 5e-6 for LoRA DPO, 2e-5 for full SFT, "
        "5e-7 for full DPO.",
        raising="Raise it to learn faster; too high and the loss jumps or turns NaN.",
        minimum=0,
        exclusive_minimum=True,
        maximum=1.0,
        simple=True,
    )
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "linear", "Shape of the learning rate after warm-up; linear and cosine end at zero."
    )
    warmup: float = setting(
        0.03,
        "Start-up phase with rising learning rate: below 1 a share of all steps, from 1 a number "
        "of steps.",
        raising="Raise it when the first steps are unstable.",
        minimum=0,
    )
    weight_decay: float = setting(
        0.0,
        "Decoupled pull of weights towards zero.",
        raising="Raise it to regularise more.",
        minimum=0,
        maximum=1,
    )
    loraplus_lr_ratio: float = setting(
        1.0, "LoRA+: B's rate over A's; 1 is off.", raising="Raise it to 16, as LoRA+.", minimum=1
    )
    max_grad_norm: float = setting(
        1.0,
        "Gradients longer than this are scaled down to it; 0 turns clipping off.",
        raising="Raise it to let rare large gradients through.",
        minimum=0,
    )


@dataclass(frozen=True, slots=True)
class TrainSection:
    """How long, how much at a time, and what is kept."""

    epochs: float = setting(
        1.0,
        "Passes over the data when max_steps is not given.",
        raising="Raise it to learn the data more closely; too many overfit.",
        unit="epochs",
        minimum=0,
        exclusive_minimum=True,
        simple=True,
    )
    max_steps: int | None = setting(
        None,
        "Number of optimizer steps; overrides epochs.",
        raising="Raise it to train longer.",
        unit="steps",
        minimum=1,
    )
    batch_size: int = setting(
        16,
        "Rows (SFT) or pairs (DPO) that make one optimizer step.",
        raising="Raise it for smoother steps; fewer of them fit an epoch.",
        unit="sequences",
        minimum=1,
        simple=True,
    )
    micro_batch_size: int | Auto = setting(
        "auto",
        "Rows (pairs) in memory at once; the rest of batch_size is accumulated.",
        raising="Raise it for speed, at more memory; the result stays the same up to rounding.",
        unit="sequences",
        minimum=1,
    )
    seed: int = setting(
        3407, "Fixes data order, adapter start and dropout.", minimum=0, maximum=2**32 - 1
    )
    log_every: int = setting(1, "Steps between logged events.", unit="steps", minimum=1)
    eval_every: int | Auto = setting(
        "auto", "Steps between evaluations; 0 turns them off.", unit="steps", minimum=0
    )
    save_every: int | Auto = setting(
        "auto",
        "Steps between checkpoints; the last step is always saved.",
        raising="Raise it to write less; more work is repeated after a crash.",
        unit="steps",
        minimum=1,
    )
    keep: int = setting(
        2,
        "Checkpoints kept; older ones are deleted after a newer one is complete.",
        raising="Raise it to go back further, at more disk.",
        minimum=1,
    )
    samples: int = setting(
        3, "Answers generated from held-out prompts at each evaluation.", minimum=0, maximum=64
    )


@dataclass(frozen=True, slots=True)
class MemorySection:
    """How much memory training may take."""

    budget: str = setting(
        "auto",
        "Device memory to stay within, such as 12GiB; auto is what is free at the start.",
        raising="Raise it and less is recomputed.",
        examples=("12GiB",),
    )
    checkpointing: Literal["auto", "on", "off"] = setting(
        "auto", "Recompute activations in the backward pass instead of keeping them."
    )


@dataclass(frozen=True, slots=True)
class LaunchSection:
    """Where it runs."""

    where: Literal["local", "docker", "slurm"] = setting("local", "Where the trainer is started.")
    devices: Auto | int | list[int] = setting(
        "auto",
        "GPUs to train on: how many, or a list of their indices; each gets a process of its own. "
        "auto is the first visible GPU, or the CPU without one; [] is the CPU.",
        examples=([0], [0, 1], 2, []),
        minimum=1,
    )
    processes: int = setting(
        1, "Processes sharing every step on the CPU; each GPU has its own.", minimum=1, maximum=64
    )
    image: str | None = setting(
        None,
        "Container image for where: docker; null is $FTLAB_IMAGE, else what `make image` builds.",
        examples=("ftlab:cu128",),
    )
    network: Literal["auto", "none", "bridge", "host"] = setting(
        "auto", "Network of the container; auto is none where model and data lie on this machine."
    )
    shm_size: str = setting(
        "1GiB",
        "Size of /dev/shm in the container, through which processes exchange data.",
        examples=("8GiB",),
    )
    memory: str | None = setting(
        None,
        "Most main memory of the container; beyond it the trainer is killed. null is no limit.",
        examples=("32GiB",),
    )


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a person asked for. Frozen; "auto" is allowed and resolved by the plan."""

    model: ModelSection = field(default_factory=ModelSection)
    adapter: AdapterSection = field(default_factory=AdapterSection)
    data: DataSection = field(default_factory=DataSection)
    method: MethodSection = field(default_factory=MethodSection)
    optim: OptimSection = field(default_factory=OptimSection)
    train: TrainSection = field(default_factory=TrainSection)
    memory: MemorySection = field(default_factory=MemorySection)
    launch: LaunchSection = field(default_factory=LaunchSection)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The config as plain nested dicts, every setting present, in declaration order."""
        return dataclasses.asdict(self)


def sections() -> Mapping[str, type]:
    """Section name to its dataclass, in the order of the config file."""
    hints = typing.get_type_hints(RunConfig)
    return {item.name: hints[item.name] for item in dataclasses.fields(RunConfig)}


@functools.cache
def settings() -> tuple[Setting, ...]:
    """Every setting of every section, in declaration order."""
    return tuple(_settings())


def _settings() -> Iterator[Setting]:
    for section, cls in sections().items():
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            make = item.default_factory
            default = item.default if make is dataclasses.MISSING else make()
            yield Setting(
                path=f"{section}.{item.name}",
                section=section,
                name=item.name,
                annotation=hints[item.name],
                default=default,
                **item.metadata,
            )
