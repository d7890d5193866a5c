"""Captured passes: the bits of passes that are launched one by one, over other tokens and keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from torch import Tensor

from ftlab.models import graphed
from ftlab.models.attach import attach
from ftlab.models.engine import Decoder
from ftlab.models.rng import StepRng
from ftlab.models.tokens import Tokens, pad, place, spread
from ftlab.planning.schedule import ITEMS, KEEP_ALL, RECOMPUTE_ALL, LayerSchedule, uniform
from ftlab.train.flat_gradients import FlatGradients
from ftlab.train.optimizers import optimizer
from ftlab_kernels.attention_layout import Layout
from ftlab_kernels.reference.linear_cross_entropy import IGNORED

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
BATCHES = ([200, 50, 3], [120, 130], [40, 40, 40, 40, 93], [253], [1000, 30])


def _decoder(device: str, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> Decoder:
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=199, hidden_size=128, intermediate_size=192, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    made = transformers.LlamaForCausalLM(config).to(dtype)
    settings = peft.LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )  # fmt: skip
    made = peft.get_peft_model(made, settings)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return attach(made.to(device))


def _tokens(lengths: list[int], device: str, seed: int) -> Tokens:
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(3, 199, sum(lengths))
    positions = np.concatenate([np.arange(length) for length in lengths])
    labels = np.where(numbers.random(len(ids)) < 0.5, np.roll(ids, -1), IGNORED)
    labels[-1] = IGNORED
    bounds = [0, *np.cumsum(lengths).tolist()]
    if device == "cpu":
        return spread(*pad(ids, positions, labels, bounds), torch.device(device))
    return place(ids, positions, labels, bounds, torch.device(device))


def _train(decoder: Decoder, device: str, *, replayed: bool, dropout: bool = False) -> list[Tensor]:
    """Losses of every batch, twice over, and the gradients that have piled up."""
    made = optimizer("adamw", decoder.trainable())
    gradients = FlatGradients(made)
    decoder.keep_gradients(gradients.views)
    decoder.train_mode()
    if replayed:
        decoder.replay()
    found: list[Tensor] = []
    for turn in range(2):
        gradients.clear()
        for number, lengths in enumerate(BATCHES):
            tokens = _tokens(lengths, device, seed=10 * turn + number)
            rng = StepRng(0, turn, number) if dropout else None
            losses = decoder.losses(tokens, rng=rng)
            (losses.sum() / (1 + number)).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                found += [losses.detach(), decoder.logprobs(tokens, adapter=False)]
        found += [buffer.clone() for buffer in gradients.buffers]
    return found


class _Graph:
    """Stands for a CUDA graph where there is none: what was captured is computed once more."""

    def __init__(self) -> None:
        self.work: Callable[[], None] = lambda: None

    def replay(self) -> None:
        self.work()


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on the CPU."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
    capture = graphed.Graphs._capture

    def again(self: Any, tokens: Tokens, plan: Any, settings: Any, keys: Any, *, grad: bool) -> Any:
        held = [sink.clone() for sink in sinks(self).values()]
        made = capture(self, tokens, plan, settings, keys, grad=grad)
        for sink, before in zip(sinks(self).values(), held, strict=True):
            sink.copy_(before)  # a capture computes nothing
        results: list[Tensor] = []

        def forward() -> None:
            with torch.set_grad_enabled(grad):
                rng = None if made.keys is None else graphed.DeviceKeys(made.keys)
                results[:] = [self.compute(made.tokens, made.plan, settings, rng)]
            made.result.copy_(results[0].detach())

        made.forward.work = forward
        if grad:
            made.backward.work = lambda: torch.autograd.backward(results[0], made.slope)
        return made

    def sinks(self: Any) -> dict[int, Tensor]:
        found: dict[int, Tensor] = self.compute.__self__._stacks[True].sinks
        return found

    def load(self: Layout, other: Layout) -> None:
        self.__dict__.update(other.__dict__)  # the CPU's attention reads boundaries, no tables

    monkeypatch.setattr(Layout, "load", load)
    monkeypatch.setattr(graphed.Graphs, "_capture", again)
    monkeypatch.setattr(Decoder, "uncapturable", lambda self: None)


@pytest.mark.usefixtures("imitated")
def test_a_replay_computes_the_present_tokens() -> None:
    plain = _train(_decoder("cpu"), "cpu", replayed=False)
    decoder = _decoder("cpu")
    replayed = _train(decoder, "cpu", replayed=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))
    assert decoder.graphs is not None
    # Four batches of about 250 tokens have two shapes, each with gradients and without.
    assert len(decoder.graphs.made) == 6


@pytest.mark.usefixtures("imitated")
def test_keys_are_drawn_where_something_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def keys(self: StepRng, sites: int, device: torch.device) -> Tensor:
        drawn.append(sites)
        return torch.zeros(sites, dtype=torch.int64)

    monkeypatch.setattr(StepRng, "keys", keys)
    _train(_decoder("cpu"), "cpu", replayed=True, dropout=True)
    assert not drawn


@pytest.mark.usefixtures("imitated")
def test_an_evaluation_is_replayed_and_a_gradient_outside_training_is_not() -> None:
    decoder = _decoder("cpu")
    _train(decoder, "cpu", replayed=True)
    assert decoder.graphs is not None
    decoder.eval_mode()
    tokens = _tokens(BATCHES[0], "cpu", seed=99)
    decoder.graphs.made.clear()
    with torch.no_grad():
        found = decoder.losses(tokens)
    assert len(decoder.graphs.made) == 1
    alone = decoder.losses(tokens)
    assert alone.requires_grad
    assert len(decoder.graphs.made) == 1
    assert torch.equal(found, alone.detach())


@pytest.mark.usefixtures("imitated")
def test_few_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "MOST", 2)
    decoder = _decoder("cpu")
    plain = _train(_decoder("cpu"), "cpu", replayed=False)
    assert all(
        torch.equal(a, b) for a, b in zip(plain, _train(decoder, "cpu", replayed=True), strict=True)
    )
    assert decoder.graphs is not None
    assert len(decoder.graphs.made) == 2


def test_what_cannot_be_captured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = _decoder("cpu")
    assert decoder.uncapturable() == "the model is on cpu"
    with pytest.raises(ValueError, match="on cpu"):
        decoder.replay()
    monkeypatch.setattr(Decoder, "device", property(lambda _: torch.device("cuda")))
    decoder.schedule = uniform(decoder.spec.num_layers, LayerSchedule(tile=4096))
    decoder.keep_gradients({0: torch.zeros(1)})
    assert "rows are taken some at a time" in str(decoder.uncapturable())


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


SCHEDULES = {
    "keep": uniform(3, KEEP_ALL),
    "recompute": uniform(3, RECOMPUTE_ALL),
    "offload": (LayerSchedule(*["offload"] * len(ITEMS)),) * 3,
}


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["keep", "recompute", "offload"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_is_that_of_single_launches(
    schedule: str, dropout: float, dtype: torch.dtype
) -> None:
    found = []
    for replayed in (False, True):
        decoder = _decoder("cuda", dropout, dtype)
        decoder.schedule = SCHEDULES[schedule]
        found.append(_train(decoder, "cuda", replayed=replayed, dropout=dropout > 0))
        if replayed:
            assert decoder.graphs is not None
            assert len(decoder.graphs.made) == 6
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(bool(buffer.isfinite().all()) for buffer in found[0])
