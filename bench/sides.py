"""The sides of a comparison: each makes the same model on its device and gives one training step.

A side returns (loss, backward-able): `forward() -> loss` and the trained parameters by a common
name, so that losses and gradients can be compared before anything is timed.
"""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from random_model import build, write_config
from torch import Tensor

NOTHING = "nothing fits this budget"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class Task:
    """What every side is asked to do."""

    shape: str  # of random_model
    rows: int
    length: int
    rank: int
    dropout: float
    precision: str  # nf4 or bf16
    checkpointing: str  # "none", "full", or a peer's own word
    device: str
    tokenizer: Path | None = None  # folder, which Unsloth wants
    host: int | None = None  # bytes of host memory that this project may pin; None: any number
    cap: int | None = None  # bytes that torch may allocate on the device; None: all


@dataclass
class Side:
    """A model that can take steps."""

    forward: Callable[[], Tensor]
    parameters: dict[str, Tensor]
    # From the optimizer, how to clear gradients; None: they are dropped.
    settle: Callable[[Any], Callable[[], None]] | None = None
    # Keep to a budget in bytes, or to none, from now on; what is predicted.
    within: Callable[[int | None], str] | None = None


def tokens(task: Task, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Ids and labels [rows, length]: the next token, none at the end of a row."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (task.rows, task.length), generator=generator)
    labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1)
    return ids.to(task.device), labels.to(task.device)


def fill(parameters: dict[str, Tensor]) -> None:
    """The same adapter on every side, B not zero: a function of the parameter's name."""
    import zlib

    with torch.no_grad():
        for name, parameter in parameters.items():
            generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(name.encode()))
            parameter.normal_(0, 0.01, generator=generator)


def common_name(name: str) -> str:
    """layers.3.mlp.up_proj.lora_A from any side's spelling."""
    found = re.search(r"layers\.(\d+)\.\w+\.(\w+)\.(lora_[AB])", name)
    return ".".join(found.groups()) if found else name


def ftlab_decoder(task: Task) -> tuple[Any, dict[str, Any]]:
    """This project's engine over the model, and the adapter by name."""
    from ftlab.lora.inject import inject
    from ftlab.models.attach import attach
    from ftlab.models.families import spec_from_config

    model = _hugging_face(task)
    spec = spec_from_config({**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]})
    model = inject(model, _adapter(task), spec, seed=0)
    decoder = attach(model, compute_dtype=torch.bfloat16)
    decoder.train_mode()
    named = {common_name(n): p for n, p in decoder.trainable().items()}
    fill(named)
    return decoder, named


def ftlab(task: Task) -> Side:
    """This project."""
    from ftlab.models.rng import StepRng

    decoder, named = ftlab_decoder(task)
    count = task.rows * (task.length - 1)
    held = _placed(task, decoder.spec.vocab_size)
    rng = StepRng(0, 0, 0) if task.dropout else None
    checkpointing = task.checkpointing != "none"

    def forward() -> Tensor:
        return decoder.losses(held, rng=rng, checkpointing=checkpointing).sum() / count

    return Side(
        forward,
        named,
        functools.partial(_graphs, decoder),
        functools.partial(_schedule, decoder, task, _adapter(task)),
    )


def _adapter(task: Task) -> Any:
    from ftlab.schema import AdapterSection

    return AdapterSection(r=task.rank, lora_alpha=task.rank, lora_dropout=task.dropout)


def _graphs(decoder: Any, optimizer: Any) -> Callable[[], None]:
    """What training does on a GPU: gradients are kept, passes are captured. How to clear them."""
    from ftlab.train.flat_gradients import FlatGradients

    if decoder.device.type != "cuda":
        return lambda: optimizer.zero_grad(set_to_none=True)
    gradients = FlatGradients(optimizer)
    decoder.keep_gradients(gradients.views)
    if decoder.uncapturable() is None:
        decoder.replay()
    return gradients.clear


def _placed(task: Task, vocabulary: int) -> Any:
    from ftlab.models.tokens import place

    ids, labels = (x.reshape(-1).cpu().numpy() for x in tokens(task, vocabulary))
    positions = torch.arange(task.length).repeat(task.rows).numpy()
    bounds = list(range(0, task.rows * task.length + 1, task.length))
    return place(ids, positions, labels, bounds, torch.device(task.device))


def peft(task: Task) -> Side:
    """transformers with PEFT."""
    import peft

    model = _hugging_face(task)
    if task.checkpointing != "none":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    config = peft.LoraConfig(
        r=task.rank, lora_alpha=task.rank, lora_dropout=task.dropout, target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return _peer(peft.get_peft_model(model, config), task)


def liger(task: Task) -> Side:
    """transformers with PEFT and Liger's kernels."""
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    apply_liger_kernel_to_llama()
    return peft(task)


def unsloth(task: Task) -> Side:
    """Unsloth; `checkpointing` is "none", "full" or "unsloth"."""
    return _peer(unsloth_model(task)[0], task)


def unsloth_model(task: Task) -> tuple[Any, Any]:
    """Unsloth's model with its adapter, and the tokenizer that it loaded."""
    from unsloth import FastLanguageModel  # before transformers, as it asks

    with tempfile.TemporaryDirectory() as folder, _loading(lambda: _hugging_face(task)):
        write_config(task.shape, Path(folder), task.tokenizer, task.length)
        model, tokenizer = FastLanguageModel.from_pretrained(
            folder, max_seq_length=task.length, dtype=torch.bfloat16,
            load_in_4bit=task.precision == "nf4", local_files_only=True,
        )  # fmt: skip
    modes = {"none": False, "full": True, "unsloth": "unsloth"}
    model = FastLanguageModel.get_peft_model(
        model, r=task.rank, lora_alpha=task.rank, lora_dropout=task.dropout, bias="none",
        target_modules=TARGETS, use_gradient_checkpointing=modes[task.checkpointing],
        random_state=0, max_seq_length=task.length,
    )  # fmt: skip
    FastLanguageModel.for_training(model)
    return model, tokenizer


SIDES: dict[str, Callable[[Task], Side]] = {
    "ftlab": ftlab, "unsloth": unsloth, "peft": peft, "liger": liger,
}  # fmt: skip


def _hugging_face(task: Task) -> Any:
    return build(task.shape, task.precision, task.device, positions=task.length)


@contextlib.contextmanager
def _loading(make: Callable[[], Any]) -> Iterator[None]:
    """Whoever loads a causal LM in here gets what `make` makes: a loader's set-up, no files.

    It is made at that moment, because loaders put their own classes in place before.
    """
    import transformers

    real = transformers.AutoModelForCausalLM.__dict__.get("from_pretrained")
    transformers.AutoModelForCausalLM.from_pretrained = lambda *_, **__: make()  # type: ignore[method-assign]
    try:
        yield
    finally:
        if real is None:
            del transformers.AutoModelForCausalLM.from_pretrained
        else:
            transformers.AutoModelForCausalLM.from_pretrained = real


def _peer(model: Any, task: Task) -> Side:
    named = {common_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    fill(named)
    model.train()
    ids, _ = tokens(task, model.config.vocab_size)
    # Peers shift labels themselves.
    return Side(lambda: model(input_ids=ids, labels=ids, use_cache=False).loss, named)


def _room(task: Task) -> int:
    """Bytes of the device that a plan without a budget may use."""
    total = torch.cuda.get_device_properties(0).total_memory - (1 << 30)
    return int(0.95 * min(total, task.cap or total))


def _schedule(decoder: Any, task: Task, adapter: Any, budget: int | None) -> str:
    """Give the engine the fastest schedule within the budget; what it predicts, or `NOTHING`.

    Without a budget everything is kept, or what the device has room for.
    """
    if decoder.graphs is not None:  # those of another schedule
        decoder.graphs = None
        torch.cuda.empty_cache()
    decoder.schedule, chosen, said = None, None, ""
    if budget is not None or task.device != "cpu":
        from ftlab.estimate import Work
        from ftlab.planning.memory import fastest
        from ftlab.planning.schedule import KEEP_ALL, to_text
        from ftlab.planning.shapes import padded_tokens

        work = Work(
            spec=decoder.spec, adapter=adapter, precision=task.precision, compute_dtype="bf16",
            optimizer="adamw_8bit", tokens=padded_tokens(task.rows * task.length),
            longest=task.length, checkpointing=False, cuda=True, host=task.host,
        )  # fmt: skip
        chosen = fastest(work, _room(task) if budget is None else budget)
        if chosen is None:
            return NOTHING
        if budget is None and set(chosen.schedule) == {KEEP_ALL}:
            chosen = None
    if chosen is not None:
        decoder.schedule = chosen.schedule
        said = f"predicted {chosen.peak / 2**30:.2f} GiB, host {chosen.host / 2**30:.2f} GiB, "
        said += to_text(chosen.schedule)
    if decoder.uncapturable() is None:
        decoder.replay()
    return said
