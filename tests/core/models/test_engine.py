"""The reference engine against transformers: every family, every RoPE, logits and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from ftlab.models.attach import attach
from ftlab.models.engine import Decoder, StepRng

SMALL = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FACTORS = {"short_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0], "long_factor": [1.0, 2, 4, 8, 16, 32]}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def rope(**scaling: Any) -> tuple[str, dict[str, Any]]:
    """A Llama with one kind of RoPE scaling."""
    return "llama", {"rope_scaling": scaling}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied-biased": (
        "llama",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "pad_token_id": 3},
    ),
    "llama-odd-head": ("llama", {"head_dim": 20, "num_key_value_heads": 1}),
    "rope-linear": rope(rope_type="linear", factor=2.5),
    "rope-dynamic-short": rope(rope_type="dynamic", factor=2.0),
    "rope-dynamic-long": (
        "llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 12},
    ),
    "rope-yarn": rope(**YARN),
    "rope-yarn-set": rope(**YARN, beta_fast=16.0, beta_slow=2.0, attention_factor=0.8),
    "rope-yarn-mscale": rope(**YARN, mscale=0.7, mscale_all_dim=0.9),
    "rope-llama3": rope(**LLAMA3),
    "mistral": ("mistral", {"sliding_window": 5, "head_dim": 16}),
    "mistral-no-window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 20}),
    "gemma": ("gemma", {"head_dim": 16, "pad_token_id": 0}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 16,
            "sliding_window": 5,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 5,
            "query_pre_attn_scalar": 20,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3-vision": ("gemma3", {"head_dim": 16, "sliding_window": 5}),
    "phi3": ("phi3", {"sliding_window": 6}),
    "phi3-short": (
        "phi3",
        {"rope_scaling": {"type": "longrope", **FACTORS}, "original_max_position_embeddings": 32},
    ),
    "phi3-long": (
        "phi3",
        {"rope_scaling": {"type": "longrope", **FACTORS}, "original_max_position_embeddings": 12},
    ),
    "phi3-partial": (
        "phi3",
        {
            "hidden_size": 64,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {"type": "longrope", **FACTORS},
            "original_max_position_embeddings": 12,
        },
    ),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1], "tie_word_embeddings": True}),
    "smollm3-window": (
        "smollm3",
        {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 4},
    ),
}
LENGTHS = [5, 17, 9, 1, 17]
TOLERANCE = 2e-5  # of a tensor's norm, fp32 against fp32


@pytest.fixture(autouse=True)
def _quiet_transformers() -> Iterator[None]:
    """Small vocabularies make transformers 5 warn about special tokens in its log."""
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(level)


def build(case: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model of the case with every norm and bias away from its neutral start."""
    model_type, changes = CASES[case]
    settings = {**SMALL, **changes}
    if model_type == "gemma3":
        text = {**settings, "model_type": "gemma3_text"}
        settings = {"text_config": text, "vision_config": VISION}
    config = transformers.CONFIG_MAPPING[model_type](**settings)
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.2 if "norm" in name or "bias" in name else 0.02))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("vision" not in name and "multi_modal" not in name)
    return model.to(dtype)


def pack(lengths: list[int], vocab: int = 61) -> tuple[Tensor, Tensor, list[int], Tensor]:
    """Token ids, positions, boundaries and labels of a padding-free batch."""
    generator = torch.Generator().manual_seed(3)
    total = sum(lengths)
    ids = torch.randint(vocab, (total,), generator=generator)
    labels = torch.randint(vocab, (total,), generator=generator)
    labels[torch.rand(total, generator=generator) < 0.3] = -100
    bounds = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    return ids, torch.cat([torch.arange(length) for length in lengths]), bounds, labels


def padded_logits(model: nn.Module, ids: Tensor, bounds: list[int]) -> Tensor:
    """transformers' logits of the same sequences as one right-padded batch: [T, V]."""
    spans = list(itertools.pairwise(bounds))
    longest = max(end - start for start, end in spans)
    batch = torch.zeros(len(spans), longest, dtype=torch.int64)
    mask = torch.zeros_like(batch)
    for row, (start, end) in enumerate(spans):
        batch[row, : end - start] = ids[start:end]
        mask[row, : end - start] = 1
    positions = torch.arange(longest).expand(len(spans), -1)
    logits = model(input_ids=batch, attention_mask=mask, position_ids=positions).logits
    return torch.cat([logits[row, : end - start] for row, (start, end) in enumerate(spans)])


def gradients(loss: Tensor, decoder: Decoder) -> dict[str, Tensor]:
    """Gradient of every trainable parameter by name."""
    named = decoder.trainable()
    grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True)
    return dict(zip(named, grads, strict=True))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference relative to theirs."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))


def assert_close(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = TOLERANCE
) -> None:
    """Every tensor by name within the tolerance."""
    assert ours.keys() == theirs.keys()
    far = {n: distance(ours[n], theirs[n]) for n in ours}
    wrong = {name: value for name, value in far.items() if not value < tolerance}
    assert not wrong, wrong


@pytest.mark.parametrize("case", CASES)
def test_logits_and_every_gradient_equal_transformers(case: str) -> None:
    model = build(case)
    ids, positions, bounds, labels = pack(LENGTHS)
    decoder = attach(model)
    hidden = decoder.hidden(ids, positions, bounds)
    theirs = padded_logits(model, ids, bounds)
    assert distance(decoder.logits(hidden), theirs) < TOLERANCE

    loss = decoder.token_loss(hidden, labels).sum()
    reference = nn.functional.cross_entropy(theirs, labels, reduction="sum")
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    assert_close(gradients(loss, decoder), gradients(reference, decoder))


def test_cases_cover_every_family_and_rope_kind() -> None:
    specs = [attach(build(case)).spec for case in CASES]
    families = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"}
    assert {spec.family for spec in specs} == families | {"smollm3"}
    kinds = {rope.kind for spec in specs for rope in spec.ropes}
    assert kinds == {"default", "linear", "dynamic", "yarn", "llama3", "longrope"}


@pytest.mark.parametrize("case", ["llama", "gemma2", "gemma3", "qwen3", "phi3"])
def test_packed_sequences_do_not_see_each_other(case: str) -> None:
    decoder = attach(build(case))
    ids, positions, bounds, _ = pack(LENGTHS)
    together = decoder.hidden(ids, positions, bounds)
    alone = [
        decoder.hidden(ids[a:b], positions[a:b], [0, b - a]) for a, b in itertools.pairwise(bounds)
    ]
    assert distance(together, torch.cat(alone)) < 1e-6


@pytest.mark.parametrize("case", ["llama", "gemma2", "phi3-partial"])
def test_checkpointing_changes_no_bit(case: str) -> None:
    decoder = attach(build(case))
    ids, positions, bounds, labels = pack(LENGTHS)
    results = []
    for checkpointing in (False, True):
        hidden = decoder.hidden(ids, positions, bounds, checkpointing=checkpointing)
        results.append((hidden, gradients(decoder.token_loss(hidden, labels).sum(), decoder)))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(results[0][1][name], g) for name, g in results[1][1].items())


def test_logprobs_are_the_negative_loss_and_feed_gradients() -> None:
    decoder = attach(build("gemma2"))
    ids, positions, bounds, labels = pack(LENGTHS)
    hidden = decoder.hidden(ids, positions, bounds)
    logprobs = decoder.token_logprobs(hidden, labels)
    reference = torch.log_softmax(decoder.logits(hidden), -1)
    picked = reference.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    assert torch.allclose(logprobs, torch.where(labels == -100, 0, picked), atol=1e-5)
    assert torch.equal(logprobs, -decoder.token_loss(hidden, labels))
    ours = gradients(logprobs.square().sum(), decoder)
    hidden = decoder.hidden(ids, positions, bounds)  # a backward pass uses its forward pass up
    reference = torch.log_softmax(decoder.logits(hidden), -1)
    picked = reference.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    assert_close(ours, gradients(picked[labels != -100].square().sum(), decoder))


def test_label_smoothing_is_torchs() -> None:
    decoder = attach(build("llama"))
    ids, positions, bounds, labels = pack(LENGTHS)
    hidden = decoder.hidden(ids, positions, bounds)
    ours = decoder.token_loss(hidden, labels, label_smoothing=0.1)
    theirs = nn.functional.cross_entropy(
        decoder.logits(hidden), labels, reduction="none", label_smoothing=0.1
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"])
def test_bf16_is_within_the_rounding_of_bf16(case: str) -> None:
    """Against the fp32 truth, our bf16 pass is no further away than transformers' own is."""
    truth, rounded = build(case), build(case, torch.bfloat16)
    truth.load_state_dict(rounded.state_dict())
    ids, positions, bounds, _ = pack(LENGTHS)
    with torch.no_grad():
        exact = padded_logits(truth, ids, bounds)
        theirs = padded_logits(rounded, ids, bounds)
        decoder = attach(rounded)
        ours = decoder.logits(decoder.hidden(ids, positions, bounds))
    assert ours.dtype == torch.bfloat16
    assert distance(ours, exact) < max(1.25 * distance(theirs, exact), 2**-8)


def test_fp32_masters_compute_in_bf16_and_get_fp32_gradients() -> None:
    model = build("llama")
    decoder = attach(model, compute_dtype=torch.bfloat16)
    ids, positions, bounds, labels = pack(LENGTHS)
    hidden = decoder.hidden(ids, positions, bounds)
    assert hidden.dtype == torch.bfloat16
    ours = gradients(decoder.token_loss(hidden, labels).sum(), decoder)
    assert {g.dtype for g in ours.values()} == {torch.float32}
    exact = attach(model)
    hidden = exact.hidden(ids, positions, bounds)
    assert_close(ours, gradients(exact.token_loss(hidden, labels).sum(), exact), 0.05)


def test_no_trained_token_gives_zero_loss_and_gradient() -> None:
    decoder = attach(build("llama"))
    ids, positions, bounds, labels = pack(LENGTHS)
    hidden = decoder.hidden(ids, positions, bounds)
    loss = decoder.token_loss(hidden, torch.full_like(labels, -100)).sum()
    assert loss.item() == 0
    assert all(not grad.any() for grad in gradients(loss, decoder).values())


def test_modes_follow_the_model() -> None:
    decoder = attach(build("llama"))
    decoder.eval_mode()
    assert not decoder.training
    assert not decoder.model.training
    decoder.train_mode()
    assert decoder.training
    assert decoder.model.training
    assert decoder.device == torch.device("cpu")


def test_step_rng_depends_on_every_part() -> None:
    keys = {
        StepRng(seed, step, micro).key(site)
        for seed in (0, 1)
        for step in (0, 1)
        for micro in (0, 1)
        for site in (0, 1)
    }
    assert len(keys) == 16
    assert StepRng(3, 4, 5).key(6) == StepRng(3, 4, 5).key(6)


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["llama", "qwen2-window", "gemma2", "gemma3", "phi3-long"])
def test_gpu_equals_cpu_and_repeats_bit_for_bit(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for device in ("cpu", "cuda", "cuda"):
            decoder = attach(build(case).to(device))
            ids, positions, bounds, labels = pack([300, *LENGTHS])
            hidden = decoder.hidden(ids, positions, bounds, checkpointing=device == "cuda")
            grads = gradients(decoder.token_loss(hidden, labels).sum(), decoder)
            results.append({name: grad.cpu() for name, grad in grads.items()})
    finally:
        torch.use_deterministic_algorithms(False)
    cpu, first, second = results
    assert_close(first, cpu, 1e-4)
    assert all(torch.equal(first[name], second[name]) for name in first)
