"""The layers by hand against the layers under autograd: every way to train, gradients by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from ftlab.models.attach import attach
from ftlab.models.engine import Decoder, StepRng
from ftlab.models.fused import stack as stack_module
from ftlab.models.fused.targets import Gradients
from ftlab.models.layers import Projection
from ftlab.planning.schedule import ITEMS, KEEP_ALL, RECOMPUTE_ALL, LayerSchedule, from_text
from ftlab_kernels.attention import _reference_backward, _reference_forward
from ftlab_kernels.reference.int8 import Int8Weight

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

LENGTHS = [7, 13, 1]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SMALL = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet_transformers() -> Iterator[None]:
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(level)


def model(kind: str = "llama", lora: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A small random model with every norm and bias away from its neutral start."""
    torch.manual_seed(7)
    config = transformers.CONFIG_MAPPING[kind](**{**SMALL, **changes})
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if lora is not None:
        settings = {"r": 3, "lora_alpha": 5, "target_modules": ALL, "task_type": "CAUSAL_LM"}
        made = peft.get_peft_model(made, peft.LoraConfig(**{**settings, **lora}))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made


def step(decoder: Decoder, *, checkpointing: bool = False, adapter: bool = True) -> Any:
    """Hidden states and the gradient of every trained parameter, in fixed order."""
    generator = torch.Generator().manual_seed(3)
    total = sum(LENGTHS)
    ids = torch.randint(61, (total,), generator=generator)
    labels = torch.randint(61, (total,), generator=generator)
    bounds = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    hidden = decoder.hidden(
        ids, positions, bounds, rng=StepRng(1, 2, 3), checkpointing=checkpointing, adapter=adapter
    )
    if not hidden.requires_grad:
        return hidden, {}
    loss = decoder.token_loss(hidden, labels, adapter=adapter).sum()
    named = decoder.trainable()
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return hidden.detach(), dict(zip(named, grads, strict=True))


def distance(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-9))


def assert_equal_to_reference(decoder: Decoder, tolerance: float = 2e-5, **options: Any) -> None:
    ours = step(decoder, **options)
    decoder.fused = False
    theirs = step(decoder, **options)
    assert distance(ours[0], theirs[0]) < tolerance
    assert ours[1].keys() == theirs[1].keys()
    for name, grad in theirs[1].items():
        assert (grad is None) == (ours[1][name] is None), name
        if grad is not None:
            assert ours[1][name].dtype == grad.dtype
            assert distance(ours[1][name], grad) < tolerance, name


def quantised(decoder: Decoder) -> Decoder:
    """The same decoder over frozen 8-bit projections."""

    def packed(projection: Projection) -> Projection:
        weight = projection.base.weight
        assert isinstance(weight, Tensor)
        absmax = weight.detach().abs().amax(1)
        values = (weight.detach() / absmax[:, None] * 127).round().to(torch.int8)
        base = dataclasses.replace(projection.base, weight=Int8Weight(values, absmax))
        tuned = base if projection.tuned.weight is weight else projection.tuned
        return dataclasses.replace(projection, tuned=tuned, base=base)

    decoder.blocks = tuple(
        dataclasses.replace(b, linears={name: packed(p) for name, p in b.linears.items()})
        for b in decoder.blocks
    )
    return decoder


ADAPTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "attention": {"target_modules": ["q_proj", "v_proj"]},
    "one-of-two": {"target_modules": ["up_proj", "o_proj"]},
    "rslora": {"use_rslora": True, "r": 4},
    "dropout": {"lora_dropout": 0.3},
    "dora": {"use_dora": True},
    "dora-dropout": {
        "use_dora": True, "lora_dropout": 0.3, "target_modules": ["k_proj", "down_proj"],
    },
    "norms-and-tables": {"modules_to_save": ["embed_tokens", "lm_head", "input_layernorm", "norm"]},
    "a-whole-projection": {
        "target_modules": ["q_proj"], "modules_to_save": ["down_proj", "k_proj"],
    },
}  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_equal_the_reference(case: str, folds: bool, checkpointing: bool) -> None:
    decoder = attach(model(lora=ADAPTERS[case]))
    decoder.folds = folds
    assert_equal_to_reference(decoder, checkpointing=checkpointing)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_over_quantised_weights(case: str, checkpointing: bool) -> None:
    decoder = quantised(attach(model(lora=ADAPTERS[case])))
    decoder.folds = checkpointing
    assert_equal_to_reference(decoder, checkpointing=checkpointing)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("folds", [False, True])
def test_trained_biases_equal_the_reference(bias: str, folds: bool) -> None:
    decoder = attach(model(lora={"bias": bias}, attention_bias=True, mlp_bias=True))
    decoder.folds = folds
    assert_equal_to_reference(decoder)


FAMILIES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "qwen3": ("qwen3", {"head_dim": 12}, ALL),
    "gemma2": (
        "gemma2",
        {"head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 2.0},
        ALL,
    ),
    "gemma3": ("gemma3_text", {"head_dim": 8, "sliding_window": 5}, ALL),
    "phi3": ("phi3", {}, ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}, ALL),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_every_shape_of_layer(family: str, checkpointing: bool) -> None:
    kind, changes, names = FAMILIES[family]
    decoder = quantised(attach(model(kind, {"target_modules": names}, **changes)))
    decoder.folds = True
    assert_equal_to_reference(decoder, checkpointing=checkpointing)


def test_the_base_model_is_computed_without_its_adapter() -> None:
    decoder = attach(model(lora={"modules_to_save": ["norm"]}))
    adapted = step(decoder)[0]
    with torch.no_grad():
        base = step(decoder, adapter=False)[0]
        decoder.fused = False
        assert distance(base, step(decoder, adapter=False)[0]) < 1e-6
    assert distance(base, adapted) > 1e-3


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.3}, {"use_dora": True}, None])
@pytest.mark.parametrize(("kind", "folds"), [("llama", False), ("gemma2", True), ("qwen3", True)])
def test_every_schedule_gives_the_same_bits(
    kind: str, folds: bool, lora: dict[str, Any] | None
) -> None:
    decoder = attach(model(kind, lora, num_hidden_layers=4))
    decoder.folds = folds
    if lora is not None and folds:
        quantised(decoder)
    offloaded = LayerSchedule(*["offload"] * len(ITEMS))
    mixed = from_text("1*kkkkkkk 1*orrorkr 1*orokrok 1*okkkkkk")
    overlaid = from_text("1*orrkork 1*okrkork 1*krkrkrk 1*kkkkkkk")
    first = None
    for schedule in [
        (KEEP_ALL,) * 4, (RECOMPUTE_ALL,) * 4, (offloaded,) * 4, mixed, overlaid,
    ]:  # fmt: skip
        decoder.schedule = schedule
        hidden, grads = step(decoder)
        first = first or (hidden, grads)
        assert torch.equal(hidden, first[0])
        for name, grad in grads.items():
            assert torch.equal(grad, first[1][name]), name


TILED = ["4*krrrrrr/8", "4*kkkkkkk/8", "1*ooooooo/8 1*orrorkr/8 1*orokrok/8 1*krkrkrk/8"]


def assert_tiles_equal(decoder: Decoder, tolerance: float = 1e-6) -> None:
    """Hidden states are the same bits, and so are gradients whatever is kept; those within rounding
    of all rows at once. 21 rows: the last tile is short.
    """
    decoder.schedule = None
    whole = step(decoder)
    first = None
    for text in TILED:
        decoder.schedule = from_text(text)[: decoder.spec.num_layers]
        hidden, grads = step(decoder)
        first = first or grads
        assert torch.equal(hidden, whole[0])
        assert grads.keys() == whole[1].keys()
        for name, grad in whole[1].items():
            assert (grad is None) == (grads[name] is None), name
            if grad is not None:
                assert grads[name].dtype == grad.dtype
                assert distance(grads[name], grad) < tolerance, name
                assert torch.equal(grads[name], first[name]), name


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("case", ADAPTERS)
def test_rows_in_tiles_with_every_adapter(case: str, folds: bool) -> None:
    decoder = attach(model(lora=ADAPTERS[case], num_hidden_layers=4))
    decoder.folds = folds
    if folds and "modules_to_save" not in ADAPTERS[case]:
        quantised(decoder)
    assert_tiles_equal(decoder)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_in_tiles_of_every_shape_of_layer(family: str) -> None:
    kind, changes, names = FAMILIES[family]
    layers = {"num_hidden_layers": 4}
    if family == "smollm3":
        layers["no_rope_layers"] = [1, 0, 1, 0]  # type: ignore[assignment]
    decoder = attach(model(kind, {"target_modules": names}, **{**changes, **layers}))
    decoder.folds = True
    assert_tiles_equal(decoder)
    assert_equal_to_reference(decoder)


@pytest.mark.parametrize(("kind", "changes"), [("llama", {"attention_bias": True}), ("gemma2", {})])
def test_rows_in_tiles_of_full_fine_tuning(kind: str, changes: dict[str, Any]) -> None:
    decoder = attach(model(kind, None, num_hidden_layers=4, **changes))
    assert_tiles_equal(decoder)
    assert_equal_to_reference(decoder)


def test_sums_over_tiles_are_rounded_once() -> None:
    parameter = torch.zeros(1, dtype=torch.bfloat16)
    gradients = Gradients(partial=True)
    for share in [1.0] + [1 / 512] * 256:  # none of which a bf16 sum of one would notice
        gradients.add(parameter, torch.tensor([share]))
    found = gradients.of(parameter)
    assert found is not None
    assert found.dtype == torch.bfloat16
    assert float(found) == 1.5


def test_rows_in_tiles_of_16_bit_parameters() -> None:
    """A CPU rounds each tile's product; see above for their sum."""
    made = model(lora={}).to(torch.bfloat16)
    decoder = attach(made, compute_dtype=torch.bfloat16)
    whole = step(decoder)[1]
    decoder.schedule = from_text("2*krrrrrr/2")
    for name, grad in step(decoder)[1].items():
        assert grad.dtype == torch.bfloat16
        assert distance(grad, whole[name]) < 0.01, name


class ByHeads:
    """Attention whose log-sum-exp comes apart by heads, as that of kernels; its reference."""

    name = "kernel"

    def forward(self, q: Tensor, *rest: Any, **rule: Any) -> tuple[Tensor, Tensor]:
        return _reference_forward(q, *rest, **rule)[0], torch.empty(q.shape[1], len(q))

    def backward(self, grad: Tensor, q: Tensor, *rest: Any, **rule: Any) -> Any:
        assert rest[3].shape == (q.shape[1], len(q))
        return _reference_backward(grad, q, *rest, **rule)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "smollm3"])
def test_the_backward_pass_of_attention_takes_some_heads_at_a_time(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, changes, names = FAMILIES.get(family, ("llama", {}, ALL))
    changes = {**changes, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
    lora = {"target_modules": names, "modules_to_save": ["norm"]}
    if family in ("qwen3", "gemma3"):  # whose weights' gradients are summed over the parts
        lora["modules_to_save"] = ["q_norm", "k_norm"]
    decoder = attach(model(kind, lora, **changes))
    decoder.folds = True
    whole = step(decoder)
    monkeypatch.setattr(stack_module, "operators", lambda *_: ByHeads())
    for text in ("2*orrrrrr/8", "2*okkrkkr/8", "2*oorrkrr/8"):
        decoder.schedule = from_text(text)
        hidden, grads = step(decoder)
        assert distance(hidden, whole[0]) < 1e-6
        for name, grad in whole[1].items():
            assert distance(grads[name], grad) < 2e-6, name


def test_layers_of_different_tiles_are_refused() -> None:
    decoder = attach(model(lora={}))
    decoder.schedule = from_text("1*krrrrrr/8 1*krrrrrr")
    with pytest.raises(ValueError, match=r"take \[0, 8\] rows at a time"):
        step(decoder)


def test_evaluation_takes_tiles_too() -> None:
    decoder = attach(model(lora={"lora_dropout": 0.3}))
    decoder.eval_mode()
    with torch.no_grad():
        whole = step(decoder)[0]
        decoder.schedule = from_text("2*orrrrrr/8")
        assert torch.equal(step(decoder)[0], whole)


def test_offloaded_memory_is_used_again() -> None:
    decoder = attach(model(lora={}))
    decoder.folds = True
    decoder.schedule = (LayerSchedule(input="offload", mlp="offload"),) * 2
    for _ in range(2):
        step(decoder)
    (idle,) = decoder._stack(True).idle
    total = sum(LENGTHS)
    assert idle.nbytes() == 4 * total * 2 * (32 + 96 + 64)


def test_a_second_backward_pass_is_refused() -> None:
    decoder = attach(model(lora={}))
    ids = torch.arange(5)
    loss = decoder.hidden(ids, ids, [0, 5]).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="ran before"):
        loss.backward()


def test_bf16_products_of_fp32_masters() -> None:
    """Gradients come in fp32 and within bf16's rounding of the reference's."""
    for lora in ({}, {"modules_to_save": ["up_proj"], "target_modules": ["q_proj"]}, None):
        decoder = attach(model(lora=lora), compute_dtype=torch.bfloat16)
        assert_equal_to_reference(decoder, tolerance=0.05)
