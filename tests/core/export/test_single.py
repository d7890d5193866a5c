"""One file of a run: whole or not at all, beside others, with a Modelfile where it is asked for."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.export import single
from ftlab.export.adapter import export_trained
from ftlab.export.gguf import write
from ftlab.export.merged import load_whole
from ftlab.export.single import export_gguf
from ftlab.models.load import load_model
from ftlab.run import Run
from ftlab.schema import AdapterSection

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, load: Callable[[Path], ModuleType]) -> Path:
    """Folder of a random Llama with a tokenizer that llama.cpp has, and a chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    words = load(Path(__file__).with_name("gguf") / "conftest.py").bytes_tokenizer()
    words.chat_template = CHATML
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=288, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def run(base: Path, runs_root: Path, make_plan: Callable[..., Any]) -> Run:
    """A run that trained an adapter for it."""
    plan = make_plan()
    model = dataclasses.replace(plan.facts.model, path=str(base), revision="")
    made = Run.create(
        dataclasses.replace(plan, facts=dataclasses.replace(plan.facts, model=model)), runs_root
    )
    loaded = load_model(str(base), adapter=AdapterSection(r=2), seed=1)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    export_trained(loaded.model, loaded.tokenizer, made.export_dir, dtype=torch.float32)
    return made


def tensors(file: Path) -> dict[str, torch.Tensor]:
    from gguf import GGUFReader

    return {t.name: torch.tensor(t.data) for t in GGUFReader(str(file)).tensors}


def test_it_holds_the_adapter(base: Path, run: Run) -> None:
    file, notes = export_gguf(run, "fp32")
    assert file == run.export_dir / "gguf-fp32" / f"{run.id}-fp32.gguf"
    assert notes == []
    found = tensors(file)["blk.1.ffn_down.weight"]
    whole = load_whole(run).model.model.layers[1].mlp.down_proj.weight
    plain = load_model(str(base)).model.model.layers[1].mlp.down_proj.weight
    assert torch.equal(found, whole)
    assert not torch.equal(found, plain)


def test_kinds_lie_beside_each_other_and_the_name_says_the_base(run: Run) -> None:
    from gguf import GGUFReader

    small, large = export_gguf(run, "q8_0")[0], export_gguf(run)[0]
    assert small.exists()
    assert small.stat().st_size < large.stat().st_size
    name = GGUFReader(str(large)).fields["general.name"].contents()
    assert name == f"SmolLM2-135M-Instruct {run.id}"


def test_for_ollama_there_is_a_modelfile(run: Run) -> None:
    file, notes = export_gguf(run, "bf16", ollama=True)
    assert notes == []
    assert {path.name for path in file.parent.iterdir()} == {"Modelfile", "README.md", file.name}
    text = (file.parent / "Modelfile").read_text()
    assert text.startswith(f"FROM ./{file.name}\nTEMPLATE")
    assert "PARAMETER num_ctx 512" in text


def test_a_full_disk_keeps_the_former_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = export_gguf(run)
    before = file.read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write, "write", full)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        export_gguf(run)
    assert file.read_bytes() == before


def test_too_little_room_is_told_before_anything_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = export_gguf(run)
    tensors = file.stat().st_size
    usage = SimpleNamespace(free=tensors // 2)
    monkeypatch.setattr(single.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(EnvironmentUnfit, match=r"takes 0\.0 GB .* smaller --dtype"):
        export_gguf(run, "fp32")
    assert not (run.export_dir / "gguf-fp32").exists()


def test_without_a_result_the_reason_is_told(
    runs_root: Path, make_plan: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match="no adapter yet"):
        export_gguf(Run.create(make_plan(), runs_root))
