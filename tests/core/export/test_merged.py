"""A merged export computes what the adapter does, loads anywhere, and is refused with reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.errors import ConfigError
from ftlab.export.adapter import export_trained
from ftlab.export.merged import export_merged, load_whole
from ftlab.models.load import load_model
from ftlab.run import Run
from ftlab.schema import AdapterSection

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama with its tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def run(base: Path, runs_root: Path, make_plan: Callable[..., Any]) -> Run:
    """A run that would have trained an adapter for it."""
    plan = make_plan()
    model = dataclasses.replace(plan.facts.model, path=str(base), revision="")
    return Run.create(
        dataclasses.replace(plan, facts=dataclasses.replace(plan.facts, model=model)), runs_root
    )


def trained(base: Path, run: Run) -> Any:
    """The adapted model after it was exported into the run."""
    loaded = load_model(str(base), adapter=AdapterSection(r=2), seed=1)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    export_trained(loaded.model, loaded.tokenizer, run.export_dir, dtype=torch.float32)
    return loaded.model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[3, 4, 5, 9]])).logits
    return found


def test_it_computes_the_same_and_loads_without_peft(base: Path, run: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = logits(trained(base, run))
    folder = export_merged(run, "fp32")
    assert folder == run.export_dir / "merged"
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(logits(whole), wanted, atol=1e-5, rtol=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert (logits(plain) - wanted).abs().max() > 1e-3
    assert AutoTokenizer.from_pretrained(folder).eos_token == "w1"


def test_the_dtype_is_that_of_the_file(base: Path, run: Run) -> None:
    from safetensors import safe_open

    trained(base, run)
    folder = export_merged(run, "bf16")
    with safe_open(folder / "model.safetensors", "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118  no mapping
    assert kinds == {torch.bfloat16}


def test_what_cannot_be_merged_is_refused(base: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match="no adapter yet"):
        export_merged(run)
    plan = run.plan()
    full = dataclasses.replace(plan.config, adapter=AdapterSection(kind="none"))
    other = Run.create(dataclasses.replace(plan, config=full), run.path.parent, "full")
    with pytest.raises(ConfigError, match="trained every weight"):
        export_merged(other)
    with pytest.raises(ConfigError, match="no model yet"):
        load_whole(other)


def test_a_run_that_trained_every_weight_is_whole(base: Path, run: Run) -> None:
    plan = run.plan()
    full = dataclasses.replace(plan.config, adapter=AdapterSection(kind="none"))
    other = Run.create(dataclasses.replace(plan, config=full), run.path.parent, "full")
    loaded = load_model(str(base), adapter=AdapterSection(kind="none"))
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight.mul_(2)
    export_trained(loaded.model, loaded.tokenizer, other.export_dir, dtype=torch.float32)
    assert torch.equal(logits(load_whole(other).model.eval()), logits(loaded.model.eval()))
