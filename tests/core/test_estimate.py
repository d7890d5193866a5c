"""Memory by term: exact where it is arithmetic, close to what the engine really keeps elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ftlab import estimate
from ftlab.estimate import Work
from ftlab.models.families import spec_from_config
from ftlab.models.spec import DecoderSpec
from ftlab.schema import AdapterSection

SMALL = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 512, "hidden_size": 128,
    "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen3": {**SMALL, "architectures": ["Qwen3ForCausalLM"], "head_dim": 16},
    "gemma2": {
        **SMALL, "architectures": ["Gemma2ForCausalLM"], "head_dim": 16,
        "query_pre_attn_scalar": 16,
    },
    "phi3": {**SMALL, "architectures": ["Phi3ForCausalLM"], "tie_word_embeddings": False,
             "pad_token_id": 0},
}  # fmt: skip
LORA, FULL = AdapterSection(r=8), AdapterSection(kind="none")


def work(spec: DecoderSpec | None = None, **changed: Any) -> Work:
    base = Work(
        spec=spec or spec_from_config(SMALL), adapter=LORA, precision="fp32", compute_dtype="fp32",
        optimizer="adamw", tokens=256, longest=64, checkpointing=False, cuda=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changed)


def test_weights_by_precision() -> None:
    spec = spec_from_config(SMALL)
    linear, every = estimate.linear_parameters(spec), spec.parameters()
    assert linear == 3 * (128 * 128 * 2 + 128 * 32 * 2 + 128 * 352 * 3)
    assert estimate.weight_bytes(work()) == 4 * every
    assert estimate.weight_bytes(work(precision="bf16", compute_dtype="bf16")) == 2 * every
    four_bit = estimate.weight_bytes(work(precision="nf4", compute_dtype="bf16"))
    assert four_bit == int(linear * estimate.NF4_BYTES) + 2 * (every - linear)
    eight_bit = estimate.weight_bytes(work(precision="int8", compute_dtype="fp16"))
    assert linear + 2 * (every - linear) < eight_bit < 1.05 * linear + 2 * (every - linear)
    assert estimate.weight_bytes(work(adapter=FULL, precision="bf16")) == 4 * every


def test_trained_parameters() -> None:
    spec = spec_from_config(SMALL)
    whole = sum(8 * (o + i) * n for o, i, n in spec.linear_shapes().values())
    assert estimate.adapter_parameters(spec, LORA) == whole
    queries = AdapterSection(r=8, target_modules=["q_proj"])
    assert estimate.adapter_parameters(spec, queries) == 3 * 8 * (128 + 128)
    dora = dataclasses.replace(queries, use_dora=True)
    assert estimate.adapter_parameters(spec, dora) == 3 * (8 * 256 + 128)
    saved = dataclasses.replace(queries, modules_to_save=["lm_head", "embed_tokens"])
    assert estimate.saved_parameters(spec, saved) == 512 * 128
    untied = spec_from_config({**SMALL, "tie_word_embeddings": False})
    assert estimate.saved_parameters(untied, saved) == 2 * 512 * 128
    assert estimate.trained_parameters(spec, FULL) == spec.parameters()


def test_biases_are_counted_where_they_exist() -> None:
    qwen = spec_from_config({**SMALL, "architectures": ["Qwen2ForCausalLM"]})
    biased = AdapterSection(r=8, bias="all")
    extra = estimate.adapter_parameters(qwen, biased) - estimate.adapter_parameters(qwen, LORA)
    assert extra == 3 * (128 + 32 + 32)
    assert estimate.adapter_parameters(spec_from_config(SMALL), biased) == (
        estimate.adapter_parameters(spec_from_config(SMALL), LORA)
    )


def test_optimizer_and_gradients() -> None:
    found = estimate.memory(work())
    trained = estimate.adapter_parameters(work().spec, LORA)
    assert found["adapters"] == found["gradients"] == 4 * trained
    assert found["optimizer"] == 8 * trained
    eight = estimate.memory(work(optimizer="adamw_8bit"))
    assert 2 * trained < eight["optimizer"] < 2.1 * trained


def test_what_saves_memory_saves_memory() -> None:
    plain = sum(estimate.memory(work()).values())
    for change in (
        {"checkpointing": True}, {"tokens": 64}, {"precision": "nf4"},
        {"adapter": AdapterSection(r=4)}, {"optimizer": "adamw_8bit"},
    ):  # fmt: skip
        assert sum(estimate.memory(work(**change)).values()) < plain, change


def test_checkpoints() -> None:
    spec = spec_from_config(SMALL)
    trained = estimate.adapter_parameters(spec, LORA)
    each = estimate.checkpoint_bytes(spec, LORA, "adamw")
    assert each == 12 * trained + estimate.MIB


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_activations_are_what_autograd_keeps(name: str, kind: str, dtype: str) -> None:
    pytest.importorskip("transformers")
    spec = spec_from_config(SHAPES[name])
    adapter = LORA if kind == "lora" else FULL
    tokens, sequences = 512, 8
    kept = kept_bytes(SHAPES[name], adapter, dtype, tokens, sequences)
    planned = work(
        spec, adapter=adapter, precision=dtype, compute_dtype=dtype, tokens=tokens,
        longest=tokens // sequences,
    )  # fmt: skip
    # The estimate is of the peak, which lies in the backward pass; the kept part is compared.
    expected = estimate.kept_bytes(planned)
    assert 0.97 * kept <= expected <= 1.1 * kept, (expected, kept, expected / kept)


def kept_bytes(
    shape: dict[str, Any], adapter: AdapterSection, dtype: str, tokens: int, sequences: int
) -> int:
    """Bytes of all tensors that autograd keeps between the passes, parameters left out."""
    import torch

    from ftlab.models.engine import StepRng

    decoder, own = small_decoder(shape, adapter, dtype)
    lengths = tokens // sequences
    ids = torch.arange(tokens) % 500
    positions = torch.arange(lengths).repeat(sequences)
    bounds = torch.arange(sequences + 1, dtype=torch.int32) * lengths
    with counting(own) as counted:
        decoder.hidden(ids, positions, bounds, rng=StepRng(0, 0, 0)).float().sum()
    return sum(counted.values())


def small_decoder(shape: dict[str, Any], adapter: AdapterSection, dtype: str) -> tuple[Any, Any]:
    """A random decoder of that shape and the storages of its parameters."""
    import torch
    import transformers

    from ftlab.lora.inject import inject

    torch.manual_seed(0)
    model_class = getattr(transformers, shape["architectures"][0])
    values = {key: value for key, value in shape.items() if key != "architectures"}
    model = model_class(model_class.config_class(**values))
    compute = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    if adapter.kind == "lora":
        model = inject(model.to(compute), adapter, spec_from_config(shape), 0)
    return attached(model, dtype)


def attached(model: Any, dtype: str) -> tuple[Any, Any]:
    """The engine on a model, and the storages of the model's parameters."""
    import torch

    from ftlab.models.attach import attach

    compute = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    decoder = attach(model, compute_dtype=compute)
    decoder.fused = False  # the formulas are those of the reference under autograd
    return decoder, {p.untyped_storage().data_ptr() for p in model.parameters()}


@contextmanager
def counting(ignored: Any) -> Iterator[dict[int, int]]:
    """Storages that autograd saves inside the block: address -> bytes."""
    import torch

    found: dict[int, int] = {}
    alive: list[Any] = []  # so that no address is used twice

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ignored:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


WIDE = {**SMALL, "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 2048}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_on_a_gpu(kind: str, checkpointing: bool) -> None:
    import torch

    adapter, tokens, sequences = (LORA if kind == "lora" else FULL), 4096, 8
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        measured = gpu_peak(adapter, checkpointing, tokens, sequences)
    finally:
        torch.use_deterministic_algorithms(False)
    planned = work(
        spec_from_config(WIDE), adapter=adapter, precision="bf16", compute_dtype="bf16",
        tokens=tokens, longest=tokens // sequences, checkpointing=checkpointing, cuda=True,
    )  # fmt: skip
    terms = estimate.memory(planned)
    expected = sum(terms.values()) - estimate.CUDA_CONTEXT
    print(f"{kind} checkpointing={checkpointing}: measured {measured}, expected {expected} {terms}")
    assert 0.95 * measured <= expected <= 1.4 * measured


def gpu_peak(adapter: AdapterSection, checkpointing: bool, tokens: int, sequences: int) -> int:
    """Bytes the allocator held at most in the second step of a real training step."""
    import torch

    from ftlab.models.engine import StepRng

    decoder, _ = small_decoder(WIDE, adapter, "bf16")
    decoder.model.to("cuda")
    decoder, _ = attached(decoder.model, "bf16")
    length = tokens // sequences
    ids = torch.arange(tokens, device="cuda") % 32000
    positions = torch.arange(length, device="cuda").repeat(sequences)
    bounds = torch.arange(sequences + 1, dtype=torch.int32) * length
    optimizer = torch.optim.AdamW(decoder.trainable().values(), foreach=False)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        hidden = decoder.hidden(
            ids, positions, bounds, rng=StepRng(0, 0, 0), checkpointing=checkpointing
        )
        decoder.token_loss(hidden, ids.roll(-1)).mean().backward()
        del hidden
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_allocated())
