"""Trained state goes to a checkpoint and back bit for bit, and only into the run it came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftlab.errors import ConfigError, EnvironmentUnfit, FtlabError
from ftlab.models.engine import Decoder
from ftlab.schema import AdapterSection
from ftlab.train.checkpoint import Checkpoint
from ftlab.train.numerics import LossScaler
from ftlab.train.optimizers import optimizer, set_learning_rate
from ftlab.train.state import Totals, TrainState

ADAPTERS = {
    "lora": AdapterSection(r=4),
    "everything": AdapterSection(
        r=4, bias="lora_only", use_dora=True, modules_to_save=["embed_tokens", "lm_head"]
    ),
    "full": AdapterSection(kind="none"),
}


def state_of(decoder: Decoder, name: str = "adamw", plan: str = "p" * 64) -> TrainState:
    parameters = decoder.trainable()
    return TrainState(
        decoder.model, parameters, optimizer(name, parameters), LossScaler(2.0**9), {"plan": plan}
    )


def train_a_little(state: TrainState) -> None:
    numbers = torch.Generator().manual_seed(5)
    for _ in range(3):
        for parameter in state.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=numbers)
        set_learning_rate(state.optimizer, 1e-2)
        state.optimizer.step()
    state.optimizer.zero_grad()


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_comes_back_bit_for_bit(
    small_decoder: Callable[..., Decoder], tmp_path: Path, adapter: str, name: str
) -> None:
    saved = state_of(small_decoder(ADAPTERS[adapter]), name)
    train_a_little(saved)
    assert saved.scaler is not None
    saved.scaler.update(overflow=True)
    saved.totals.tokens, saved.totals.trained_tokens = 70, 30
    saved.write(tmp_path, 3)

    fresh = state_of(small_decoder(ADAPTERS[adapter], moved=False), name)
    assert fresh.hash() != saved.hash()
    fresh.restore(Checkpoint(tmp_path, 3))
    assert fresh.hash() == saved.hash()
    assert fresh.scaler is not None
    assert fresh.scaler.scale == 2.0**8
    assert fresh.totals == Totals(70, 30)
    for key, parameter in saved.parameters.items():
        assert torch.equal(parameter, fresh.parameters[key]), key
        assert fresh.parameters[key].requires_grad
    train_a_little(saved)
    train_a_little(fresh)
    assert fresh.hash() == saved.hash()


# PEFT asks transformers 5 for a property under the name it had in 4.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_saved_in_the_format_of_peft(
    small_decoder: Callable[..., Decoder], small_model: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    decoder = small_decoder()
    state_of(decoder).write(tmp_path, 1)
    base = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(loaded(ids).logits, decoder.model(ids).logits)


def test_hash_sees_every_bit(small_decoder: Callable[..., Decoder]) -> None:
    state = state_of(small_decoder())
    train_a_little(state)
    hashes = [state.hash()]
    parameter = next(iter(state.parameters.values()))
    parameter.data.view(-1)[0] = torch.nextafter(parameter.data.view(-1)[0], torch.tensor(9.0))
    hashes.append(state.hash())
    state.optimizer.state[parameter]["exp_avg"].view(-1)[-1] += 1
    hashes.append(state.hash())
    assert len(set(hashes)) == 3
    assert {len(found) for found in hashes} == {16}
    assert state.hash() == hashes[-1]


def test_another_plan_is_refused(small_decoder: Callable[..., Decoder], tmp_path: Path) -> None:
    folder = tmp_path / "my-run" / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    state_of(small_decoder(), plan="a" * 64).write(folder, 1)
    with pytest.raises(ConfigError, match=r"cannot resume my-run .* its plan is aaaaaaaaaaaa"):
        state_of(small_decoder(), plan="b" * 64).restore(Checkpoint(folder, 1))


def test_an_adapter_of_another_shape_is_refused(
    small_decoder: Callable[..., Decoder], tmp_path: Path
) -> None:
    state_of(small_decoder(AdapterSection(r=8))).write(tmp_path, 1)
    with pytest.raises(EnvironmentUnfit, match="does not fit"):
        state_of(small_decoder(AdapterSection(r=4))).restore(Checkpoint(tmp_path, 1))


def test_other_parameters_are_refused(
    small_decoder: Callable[..., Decoder], tmp_path: Path
) -> None:
    state = state_of(small_decoder(ADAPTERS["full"]))
    state.write(tmp_path, 1)
    tensors = load_file(tmp_path / "trained.safetensors")
    tensors.popitem()
    save_file(tensors, tmp_path / "trained.safetensors")
    with pytest.raises(FtlabError, match="other parameters"):
        state.restore(Checkpoint(tmp_path, 1))


def test_what_is_not_what_was_saved_is_refused(
    small_decoder: Callable[..., Decoder], tmp_path: Path
) -> None:
    state = state_of(small_decoder())
    train_a_little(state)
    state.write(tmp_path, 1)
    path = tmp_path / "optimizer.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, path)
    with pytest.raises(FtlabError, match="another state than was saved"):
        state.restore(Checkpoint(tmp_path, 1))


def test_nothing_in_a_checkpoint_is_a_pickle(
    small_decoder: Callable[..., Decoder], tmp_path: Path
) -> None:
    state_of(small_decoder()).write(tmp_path, 1)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "adapter_model.safetensors", "adapter_config.json", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 1
