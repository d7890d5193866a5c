"""The engine on a real model: SmolLM2's weights against transformers and PEFT, and its perplexity.

Reference figures: `shared/models/README.md` (fp32, windows of 1,024 tokens).
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ftlab.evaluation.perplexity import perplexity, windows
from ftlab.models.attach import attach
from ftlab.models.engine import Decoder
from ftlab.models.load import load_model, load_tokenizer
from ftlab.schema import AdapterSection

TEXTS = ("The capital of France is Paris, and its river is", "def add(a, b):\n    return a + b")
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 8},
    "dora": {"r": 4, "use_dora": True, "target_modules": ["q_proj", "down_proj"]},
}


def pack(folder: Path) -> tuple[list[Tensor], Tensor, Tensor, list[int]]:
    """The texts as token ids, one by one and end to end with positions and boundaries."""
    tokenizer = load_tokenizer(str(folder))
    ids = [torch.tensor(tokenizer(text)["input_ids"]) for text in TEXTS]
    bounds = [0, len(ids[0]), len(ids[0]) + len(ids[1])]
    return ids, torch.cat(ids), torch.cat([torch.arange(len(row)) for row in ids]), bounds


def compare(decoder: Decoder, model: nn.Module, folder: Path) -> None:
    """Logits and every gradient of one step in fp32, by name, within 1e-4 of their norm.

    transformers computes in fp64, and `model` stays in it: its own fp32 gradients are up to 3e-4
    from that, by an amount that changes with the number of threads.
    """
    rows, ids, positions, bounds = pack(folder)
    labels = torch.cat([torch.cat((row[1:], torch.tensor([-100]))) for row in rows])
    named = decoder.trainable()
    hidden = decoder.hidden(ids, positions, bounds)
    logits, loss = decoder.logits(hidden).detach(), decoder.token_loss(hidden, labels).sum()
    ours = torch.autograd.grad(loss, list(named.values()))

    model.double()
    theirs = torch.cat([model(row[None]).logits[0] for row in rows])
    assert theirs.dtype == torch.float64
    assert _distance(logits, theirs) < 1e-4
    reference = nn.functional.cross_entropy(theirs, labels, reduction="sum")
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    expected = torch.autograd.grad(reference, list(named.values()))
    far = {n: _distance(a, b) for n, a, b in zip(named, ours, expected, strict=True)}
    assert min(float(b.norm()) for b in expected) > 0
    assert max(far.values()) < 1e-4, max(far, key=lambda name: far[name])
    print(f"largest distance of {len(far)} gradients: {max(far.values()):.1e}")


def _distance(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))


def test_logits_and_all_gradients_equal_transformers(smollm2: Path) -> None:
    model = load_model(str(smollm2)).model
    decoder = attach(model)
    assert decoder.spec.parameters() == 134_515_008
    assert len(decoder.trainable()) == 272
    compare(decoder, model, smollm2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_adapters_equal_peft(smollm2: Path, variant: str) -> None:
    section = AdapterSection(**VARIANTS[variant])
    model = load_model(str(smollm2), adapter=section, seed=3407).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    compare(attach(model), model, smollm2)


def wikipedia(shared: Path) -> str:
    with gzip.open(shared / "data/text/wikipedia_30_articles.jsonl.gz", "rt") as lines:
        return "\n".join(json.loads(line)["text"] for line in lines)


def wikitext(shared: Path) -> str:
    return gzip.open(shared / "data/text/wikitext2_test.txt.gz", "rt").read()


@pytest.mark.parametrize(
    ("text", "predicted", "published"), [(wikipedia, 8184, 29.29), (wikitext, 16368, 19.88)]
)
def test_perplexity_is_the_published_one(
    smollm2: Path, shared: Path, text: Any, predicted: int, published: float
) -> None:
    loaded = load_model(str(smollm2))
    tokenizer = loaded.tokenizer
    tokenizer.model_max_length = 10**9  # the text is cut below
    count = predicted // 1023 * 1024
    ids = tokenizer(text(shared)[: count * 8])["input_ids"][:count]
    result = perplexity(attach(loaded.model), windows(ids, 1024))
    print(f"{text.__name__}: perplexity {result.perplexity:.4f}, published {published}")
    assert result.tokens == predicted
    assert result.perplexity == pytest.approx(published, rel=1e-3)
