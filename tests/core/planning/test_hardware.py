"""Device and dtype by compute capability alone; packages and checkpoints that decide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.plan import Plan

Resolve = Callable[..., Plan]


@pytest.mark.parametrize(
    ("gpu", "compute", "scaling", "words"),
    [
        ("v100", "fp16", True, "compute capability 7.0 has no native bf16"),
        ("t4", "fp16", True, "compute capability 7.5 has no native bf16"),
        ("a100", "bf16", False, "compute capability 8.0 has native bf16"),
        ("4090", "bf16", False, "compute capability 8.9 has native bf16"),
        ("h100", "bf16", False, "compute capability 9.0 has native bf16"),
    ],
)
def test_dtype_follows_the_capability(
    resolve: Resolve, gpu: str, compute: str, scaling: bool, words: str
) -> None:
    made = resolve(gpus=(gpu,))
    assert made.decided("compute_dtype") == compute
    assert made.decided("loss_scaling") is scaling
    assert words in made.decisions["compute_dtype"].reason
    assert made.config.model.precision == compute
    assert made.decided("device") == "cuda:0"
    assert made.decided("attention") == "kernel"


def test_the_cpu_computes_in_fp32(resolve: Resolve) -> None:
    made = resolve()
    assert made.config.model.precision == "fp32"
    assert made.decisions["compute_dtype"].reason == "this CPU has no native bf16"
    assert made.decided("attention") == "sdpa"
    native = resolve(machine={"cpu_bf16": True})
    assert native.decided("compute_dtype") == "fp32"
    assert "bf16 would use" in native.decisions["compute_dtype"].reason


def test_16_bit_weights_on_the_cpu(resolve: Resolve) -> None:
    held = resolve(["model.precision=bf16"])
    assert held.decided("compute_dtype") == "fp32"
    assert any("only saves memory" in warning for warning in held.warnings)
    assert resolve(["model.precision=fp16"]).decided("loss_scaling") is False
    full = resolve(["model.precision=bf16", "adapter.kind=none"])
    assert any("only sets the dtype of the result" in warning for warning in full.warnings)
    native = resolve(["model.precision=bf16"], machine={"cpu_bf16": True})
    assert native.decided("compute_dtype") == "bf16"


def test_bf16_is_refused_where_it_is_emulated(resolve: Resolve) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"capability 7\.5\) has no native bf16 \(use fp16"):
        resolve(["model.precision=bf16"], gpus=("t4",))


@pytest.mark.parametrize("precision", ["fp16", "fp32", "nf4", "int8"])
def test_precisions_that_every_gpu_has(resolve: Resolve, precision: str) -> None:
    made = resolve([f"model.precision={precision}"], gpus=("t4",))
    expected = precision if precision in ("fp16", "fp32") else "fp16"
    assert made.decided("compute_dtype") == expected


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_quantised_weights_work_on_the_cpu(resolve: Resolve, precision: str) -> None:
    made = resolve([f"model.precision={precision}", "optim.name=adamw_8bit"])
    assert made.decided("compute_dtype") == "fp32"


def test_which_gpu(resolve: Resolve) -> None:
    made = resolve(gpus=("t4", "h100"))
    assert made.config.launch.devices == [0]
    assert "first of 2 GPUs" in made.decisions["launch.devices"].reason
    second = resolve(["launch.devices=[1]"], gpus=("t4", "h100"))
    assert second.decided("device") == "cuda:0"
    assert "GPU 1: NVIDIA H100" in second.decisions["device"].reason
    assert second.decided("compute_dtype") == "bf16"
    assert resolve(["launch.devices=[]"], gpus=("h100",)).decided("device") == "cpu"


def test_old_gpus(resolve: Resolve) -> None:
    assert resolve(gpus=("k80",)).config.launch.devices == []
    assert resolve(gpus=("k80", "t4")).config.launch.devices == [1]
    with pytest.raises(EnvironmentUnfit, match=r"capability 3\.7; the oldest supported is 7\.0"):
        resolve(["launch.devices=[0]"], gpus=("k80",))


def test_why_there_is_no_gpu(resolve: Resolve) -> None:
    problem = "the driver is too old for CUDA 12.1"
    with pytest.raises(EnvironmentUnfit, match="driver is too old"):
        resolve(["launch.devices=[0]"], machine={"gpu_problem": problem})
    made = resolve(machine={"gpu_problem": problem})
    assert made.decisions["launch.devices"].reason == problem


def test_a_missing_bitsandbytes(resolve: Resolve) -> None:
    bare = {"versions": {"torch": "2.4.1"}}
    with pytest.raises(EnvironmentUnfit, match="nf4 needs bitsandbytes"):
        resolve(["model.precision=nf4"], machine=bare)
    with pytest.raises(EnvironmentUnfit, match="adamw_8bit needs bitsandbytes"):
        resolve(["optim.name=adamw_8bit"], machine=bare)
    assert resolve(machine=bare).config.optim.name == "adamw"


def test_a_quantised_checkpoint_decides(resolve: Resolve) -> None:
    made = resolve(quantization="bitsandbytes-nf4")
    assert made.config.model.precision == "nf4"
    with pytest.raises(ConfigError, match="stored in nf4, asked was bf16"):
        resolve(["model.precision=bf16"], quantization="bitsandbytes-nf4", gpus=("h100",))
    with pytest.raises(ConfigError, match="cannot all be trained"):
        resolve(["adapter.kind=none"], quantization="bitsandbytes-int8")
    with pytest.raises(EnvironmentUnfit, match="quantised with gptq"):
        resolve(quantization="gptq")


def test_attention_of_models_with_windows_and_soft_caps(resolve: Resolve) -> None:
    gemma = {
        "architectures": ["Gemma2ForCausalLM"], "vocab_size": 1000, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 8192,
    }  # fmt: skip
    assert "soft-caps" in resolve(model=gemma).decisions["attention"].reason
    mistral = {**gemma, "architectures": ["MistralForCausalLM"], "sliding_window": 128}
    assert resolve(model=mistral).decided("attention") == "sdpa+block"
