"""DPO against TRL's own trainer, its closed form, and the adapter switched off."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ftlab.data.batches import MicroBatch, Step
from ftlab.models.engine import Decoder
from ftlab.train.batch import to_device
from ftlab.train.objectives.dpo import Dpo, adapter_off, pair_logprobs, preference_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where TRL 1.15 can compute at all
LATEST = int(transformers.__version__.partition(".")[0]) >= 5
ROWS = [
    {"prompt": "w5 w6 w7 w8", "chosen": " w9 w10 w11", "rejected": " w12"},
    {"prompt": "w20 w21", "chosen": " w22", "rejected": " w23 w24 w25 w26 w27"},
    {"prompt": "w30 w31 w32", "chosen": " w33 w34", "rejected": " w35 w36"},
]


def _trl_trainer(folder: Path, output: Path, decoder: Decoder, **settings: Any) -> Any:
    """TRL's DPOTrainer on a fresh copy of the model with the adapter of `decoder`."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=len(ROWS),
        use_cpu=DEVICE == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        **settings,
    )
    trainer = DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        peft_config=decoder.model.peft_config["default"],
    )
    theirs = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    for name, parameter in decoder.trainable().items():
        theirs.pop(name).data.copy_(parameter.data)
    assert not theirs
    return trainer


def _pairs(inputs: dict[str, torch.Tensor]) -> list[list[tuple[list[int], int]]]:
    """What TRL made of the rows: for each pair (ids, prompt length) of chosen and rejected."""
    if LATEST:
        ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
        prompts = (real & ~inputs["completion_mask"].bool()).sum(1).tolist()
        rows = [(i[m].tolist(), n) for i, m, n in zip(ids, real, prompts, strict=True)]
        return [list(pair) for pair in zip(rows[: len(ROWS)], rows[len(ROWS) :], strict=True)]

    def real_ids(name: str) -> list[list[int]]:
        masks = inputs[f"{name}_attention_mask"].bool()
        return [i[m].tolist() for i, m in zip(inputs[f"{name}_input_ids"], masks, strict=True)]

    prompts_ids, answers = real_ids("prompt"), (real_ids("chosen"), real_ids("rejected"))
    return [
        [(p + answer, len(p)) for answer in both]
        for p, both in zip(prompts_ids, zip(*answers, strict=True), strict=True)
    ]


def _micro(pairs: list[list[tuple[list[int], int]]]) -> MicroBatch:
    sequences = [sequence for pair in pairs for sequence in pair]
    labels = [
        [*(ids[place] if place >= prompt else -100 for place in range(1, len(ids))), -100]
        for ids, prompt in sequences
    ]
    lengths = [len(ids) for ids, _ in sequences]
    return MicroBatch(
        np.array([i for ids, _ in sequences for i in ids]),
        np.concatenate([np.arange(n) for n in lengths]),
        np.array([0, *itertools.accumulate(lengths)], np.int32),
        np.array([label for row in labels for label in row]),
        np.arange(len(pairs)),
        2,
    )


SMOOTHINGS = [0.0] if LATEST else [0.0, 0.2]  # TRL 1.x dropped cDPO from its sigmoid loss


@pytest.mark.filterwarnings("ignore")  # TRL's own deprecations, which are not ours to fix
@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_equals_trl_in_loss_gradients_and_metrics(
    small_model: Path,
    small_decoder: Callable[..., Decoder],
    tmp_path: Path,
    beta: float,
    label_smoothing: float,
) -> None:
    decoder = small_decoder()
    decoder.model.to(DEVICE)
    settings = {"beta": beta, "label_smoothing": label_smoothing}
    trainer = _trl_trainer(small_model, tmp_path, decoder, **settings)
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    theirs = {n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad}

    micro = _micro(_pairs(inputs))
    objective = Dpo(beta, adapter_off, label_smoothing)
    loss, metrics = objective.loss(decoder, to_device(micro, DEVICE), None)
    (loss / len(ROWS)).backward()

    assert loss.item() / len(ROWS) == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in decoder.trainable().items():
        assert parameter.grad is not None
        distance = (parameter.grad - theirs[name]).norm() / theirs[name].norm()
        assert distance < 2e-5, name  # of the norm: single elements of 1e-3 carry fp32's noise
    logged = _logged(trainer)
    for name, value in zip(objective.metrics, metrics, strict=True):
        assert value.item() / len(ROWS) == pytest.approx(logged[name], rel=1e-4, abs=1e-5), name


def _logged(trainer: Any) -> dict[str, float]:
    """The metrics that TRL collected for its log."""
    store = getattr(trainer, "_metrics", None) or trainer._stored_metrics
    return {name: sum(values) / len(values) for name, values in store["train"].items()}


def test_loss_is_the_closed_form() -> None:
    policy = torch.tensor([[-3.0, -5.0], [-4.0, -1.0]])
    reference = torch.tensor([[-3.5, -4.0], [-2.0, -2.5]])
    margins = np.array([0.5 - -1.0, -2.0 - 1.5])
    sigmoid = 1 / (1 + np.exp(-0.3 * margins))
    found = preference_loss(policy, reference, 0.3, 0.1)
    expected = -0.9 * np.log(sigmoid) - 0.1 * np.log(1 - sigmoid)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_an_adapter_that_does_nothing_has_no_margin(small_decoder: Callable[..., Decoder]) -> None:
    decoder = small_decoder(moved=False)
    batch = to_device(_micro([[([3, 4, 5], 1), ([3, 6], 1)]]), "cpu")
    loss, metrics = Dpo(0.1, adapter_off).loss(decoder, batch, None)
    assert loss.item() == pytest.approx(np.log(2))
    reported = dict(zip(Dpo.metrics, metrics, strict=True))
    assert reported["rewards/margins"] == 0
    assert reported["rewards/accuracies"] == 0


def test_reference_takes_no_part_in_the_gradient(small_decoder: Callable[..., Decoder]) -> None:
    decoder = small_decoder()
    batch = to_device(_micro([[([3, 4, 5], 1), ([3, 6], 1)]]), "cpu")
    reference = adapter_off(decoder, batch)
    assert not reference.requires_grad
    policy = pair_logprobs(decoder, batch)
    assert policy.shape == (1, 2)
    assert not torch.equal(policy, reference)


def test_units_are_pairs() -> None:
    micro = _micro([[([3, 4, 5], 1), ([3, 6], 1)], [([7, 8], 1), ([7, 9, 10], 1)]])
    assert Dpo(0.1, adapter_off).units(Step(0, 0, 0, 6, [micro, micro])) == 4
