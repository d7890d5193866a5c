"""A small world: a random 2-layer Llama, token stores, plans over them, and runs in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftlab.data.tokens import StoreWriter, TokenStore
from ftlab.facts import DataFacts, Facts, Machine, ModelFacts
from ftlab.models.attach import attach
from ftlab.models.engine import Decoder
from ftlab.models.load import load_model
from ftlab.plan import Decision, Plan
from ftlab.run import Run
from ftlab.schema import (
    AdapterSection,
    DataSection,
    LaunchSection,
    MemorySection,
    MethodSection,
    ModelSection,
    OptimSection,
    RunConfig,
    TrainSection,
)

VOCABULARY = 64
END = 1  # the end-of-sequence token


@pytest.fixture(autouse=True)
def _global_torch() -> Iterator[None]:
    """The trainer sets switches of the whole process; give them back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama (2 layers, hidden 64, 64 words) with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("small-model")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=END,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    """Token stores: 40 rows for "sft", 24 pairs for "dpo", and fewer for "sft-eval", "dpo-eval"."""
    root = tmp_path_factory.mktemp("stores")
    rows = {"sft": 40, "sft-eval": 10, "dpo": 24, "dpo-eval": 6}
    return {name: _store(root / name, name.startswith("dpo"), n) for name, n in rows.items()}


def _store(path: Path, preference: bool, rows: int) -> TokenStore:
    numbers = np.random.default_rng(rows)
    segments = 3 if preference else 1
    with StoreWriter(path, preference=preference) as writer:
        for _ in range(rows):
            lengths = numbers.integers(3, 10, size=(1, segments))
            tokens = numbers.integers(3, VOCABULARY, size=int(lengths.sum()))
            marks = np.ones(len(tokens), np.uint8)
            marks[: int(lengths[0, 0]) if preference else 2] = 0
            tokens[np.cumsum(lengths)[-2:] - 1 if preference else -1] = END
            writer.append(tokens, marks, lengths)
        return writer.finish()


@pytest.fixture
def plan_of(small_model: Path, stores: dict[str, TokenStore]) -> Callable[..., Plan]:
    """Maker of plans: `plan_of("sft", max_steps=12, adapter={"r": 4}, ...)`.

    Keywords are settings of the train section; adapter, optim, model, method, memory and data take
    dicts; device and compute (the dtype) are decisions.
    """

    def make(
        kind: str = "sft",
        *,
        held_out: bool = True,
        device: str = "cpu",
        compute: str = "fp32",
        **settings: Any,
    ) -> Plan:
        sections = {
            name: settings.pop(name, {})
            for name in ("adapter", "optim", "model", "method", "memory", "data")
        }
        config = _config(kind, sections, settings)
        facts = Facts(
            Machine("Linux", "cpu", 1, 1, False, 8 << 30, 4 << 30, 9 << 30),
            _model_facts(small_model),
            _data_facts(stores[kind]),
            _data_facts(stores[f"{kind}-eval"]) if held_out else None,
        )
        decisions = {
            "device": Decision(device, "test"),
            "compute_dtype": Decision(compute, "test"),
            "loss_scaling": Decision(compute == "fp16", "test"),
        }
        steps = config.train.max_steps or 1
        return Plan(
            config, decisions, {}, steps, 1, len(stores[kind]), 0, None, 0, (), facts, 1, "f" * 64
        )

    return make


def _config(kind: str, sections: dict[str, dict[str, Any]], train: dict[str, Any]) -> RunConfig:
    defaults: dict[str, Any] = {
        "max_steps": 8,
        "batch_size": 4,
        "micro_batch_size": 2,
        "save_every": 3,
        "eval_every": 4,
        "samples": 2,
    }
    reference = "precomputed" if sections["adapter"].get("kind") == "none" else "adapter_off"
    return RunConfig(
        model=ModelSection(
            **{"name": "small", "precision": "fp32", "max_length": 32} | sections["model"]
        ),
        adapter=AdapterSection(**{"r": 4, "lora_dropout": 0.1} | sections["adapter"]),
        data=DataSection(**{"source": "rows", "packing": False} | sections["data"]),
        method=MethodSection(**{"kind": kind, "reference": reference} | sections["method"]),
        optim=OptimSection(**{"name": "adamw", "learning_rate": 1e-2} | sections["optim"]),
        train=TrainSection(**defaults | train),
        memory=MemorySection(**{"checkpointing": "off"} | sections["memory"]),
        launch=LaunchSection(devices=[]),
    )


def _model_facts(folder: Path) -> ModelFacts:
    return ModelFacts(
        "small", str(folder), "", "LlamaForCausalLM", "llama", {}, 100_000, {}, 4096, "float32",
        400_000, "", 128, False,
    )  # fmt: skip


def _data_facts(store: TokenStore) -> DataFacts:
    return DataFacts(
        "rows", "text", "test", str(store.path), store.sha256, len(store),
        preference=store.preference,
    )  # fmt: skip


@pytest.fixture
def train_run(tmp_path: Path) -> Callable[..., tuple[Run, int]]:
    """Train a plan (or go on with a run) in this process: `run, code = train_run(plan)`."""
    from ftlab.train.__main__ import main

    def go(plan: Plan | Run, *, resume: bool = False) -> tuple[Run, int]:
        run = plan if isinstance(plan, Run) else Run.create(plan, tmp_path / "runs")
        return run, main([str(run.path), *(["--resume"] if resume else [])])

    return go


@pytest.fixture
def small_decoder(small_model: Path) -> Callable[..., Decoder]:
    """Maker of decoders over the small model: `small_decoder(adapter=AdapterSection(...))`."""

    def make(adapter: AdapterSection | None = None, *, moved: bool = True) -> Decoder:
        section = adapter or AdapterSection(r=4)
        loaded = load_model(str(small_model), adapter=section, seed=3)
        decoder = attach(loaded.model)
        if moved:  # B starts at zero; an adapter that acts tells more
            numbers = torch.Generator().manual_seed(1)
            for parameter in decoder.trainable().values():
                noise = torch.randn(parameter.shape, generator=numbers)
                parameter.data.add_(0.05 * noise)
        return decoder

    return make


def replace(plan: Plan, **changes: Any) -> Plan:
    """A plan that differs."""
    return dataclasses.replace(plan, **changes)
