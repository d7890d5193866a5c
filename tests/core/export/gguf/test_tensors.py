"""Names and rows of the weights: the inverse of how GGUF is read, nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf import tensors
from ftlab.export.gguf.architecture import describe
from ftlab.models.families import spec_from_config
from ftlab.models.load import load_model
from ftlab.models.spec import RopeSpec
from ftlab.starter.convert import rotary_to_halves


@pytest.mark.parametrize("heads", [1, 3])
def test_rows_come_back_as_they_were(heads: int) -> None:
    weight = torch.randn(heads * 10, 7)
    turned = tensors.halves_to_neighbours(weight, heads)
    assert not torch.equal(turned, weight)
    assert torch.equal(torch.from_numpy(rotary_to_halves(turned.numpy(), heads)), weight)
    bias = tensors.halves_to_neighbours(weight[:, 0], heads)
    assert torch.equal(bias, turned[:, 0])


def test_a_tied_head_is_left_out_and_a_trained_one_is_not(
    model_folder: Callable[[str], Path],
) -> None:
    tied, apart = (
        load_model(str(model_folder("llama-biases"))),
        load_model(str(model_folder("llama"))),
    )
    for loaded, has_head in ((tied, False), (apart, True)):
        found = tensors.named(loaded.model, loaded.spec, describe(loaded.spec))
        names = [name for name, _ in found]
        assert len(names) == len(set(names))
        assert ("output.weight" in names) == has_head
        assert {"token_embd.weight", "output_norm.weight", "blk.1.ffn_down.weight"} <= set(names)
    biases = [name for name, _ in tensors.named(tied.model, tied.spec, describe(tied.spec))
              if name.endswith(".bias")]  # fmt: skip
    assert len(biases) == 2 * 7


def test_norms_of_gemma_are_written_as_they_multiply(model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(str(model_folder("gemma2")))
    shape = describe(loaded.spec)
    found = dict(tensors.named(loaded.model, loaded.spec, shape))
    own = loaded.model.state_dict()["model.layers.0.post_attention_layernorm.weight"]
    name = "blk.0.post_attention_norm.weight"
    assert torch.equal(tensors.values(name, found[name], loaded.spec, shape), own + 1)


def test_what_llamacpp_has_no_name_for_is_refused(model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(str(model_folder("qwen2")))
    state = {**loaded.model.state_dict(), "model.layers.0.self_attn.sinks": torch.ones(4)}
    model = SimpleNamespace(
        state_dict=lambda: state, get_input_embeddings=loaded.model.get_input_embeddings
    )
    with pytest.raises(EnvironmentUnfit, match=r"no tensor for model.*sinks"):
        tensors.named(model, loaded.spec, describe(loaded.spec))


def test_rope_is_told_by_tensors() -> None:
    assert list(tensors.rope_tensors(RopeSpec(dim=8))) == []
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
    spec = spec_from_config({"architectures": ["LlamaForCausalLM"], "rope_scaling": scaling})
    ((name, factors),) = tensors.rope_tensors(spec.ropes[0])
    assert name == "rope_freqs.weight"
    assert factors.shape == (64,)
    assert factors[0] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(8.0)
    long = RopeSpec(dim=4, kind="longrope", short_factor=(1.0, 2.0), long_factor=(3.0, 4.0))
    assert {name: list(t) for name, t in tensors.rope_tensors(long)} == {
        "rope_factors_long.weight": [3, 4], "rope_factors_short.weight": [1, 2],
    }  # fmt: skip
