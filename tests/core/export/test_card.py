"""The card says what was trained, on what, how it came out, and no path of this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftlab import events, manifest
from ftlab.export.card import card, public
from ftlab.run import Run
from ftlab.schema import AdapterSection


@pytest.fixture
def run(runs_root: Path, make_plan: Callable[..., Any]) -> Run:
    """A finished run of a model and data that lie in a person's folders."""
    plan = make_plan()
    config = dataclasses.replace(
        plan.config,
        model=dataclasses.replace(plan.config.model, name="/home/anna/models/Small"),
        data=dataclasses.replace(plan.config.data, source="~/secret project/rows.jsonl"),
    )
    facts = dataclasses.replace(
        plan.facts,
        model=dataclasses.replace(plan.facts.model, name="/home/anna/models/Small", revision=""),
        data=dataclasses.replace(plan.facts.data, source="~/secret project/rows.jsonl"),
    )
    made = Run.create(dataclasses.replace(plan, config=config, facts=facts), runs_root, "r1")
    with events.EventWriter(made.events_path) as writer:
        writer.write("step", step=50, loss=0.25)
        writer.write("eval", step=50, loss=0.5, perplexity=1.65, tokens=7)
    manifest.seal(made, {"state": "done", "step": 50})
    return made


@pytest.mark.parametrize("form", ["adapter", "model", "merged", "gguf", "ollama"])
def test_it_is_whole_and_names_no_folder(run: Run, form: str) -> None:
    text = card(run, form)
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "Small"
    assert front.get("library_name") == {
        "adapter": "peft", "model": "transformers", "merged": "transformers",
    }.get(form)  # fmt: skip
    assert front["tags"] == ["sft", "lora", "ftlab"]
    assert "Small, trained on rows.jsonl by supervised fine-tuning (LoRA of rank 16)." in text
    assert "| loss at the end | 0.25 |" in text
    assert "loss 0.5, perplexity 1.65" in text
    assert "| data | rows.jsonl (tokens sha256 dddddddddddddddd) |" in text
    assert "`ftrun bundle r1`" in text
    for private in ("anna", "secret", str(run.path.parent)):
        assert private not in text
    assert "by the author" in text


def test_how_to_use_it_is_of_the_form(run: Run) -> None:
    assert 'PeftModel.from_pretrained(model, "THIS FOLDER")' in card(run, "adapter")
    assert 'from_pretrained("Small")' in card(run, "adapter")
    assert "peft" not in card(run, "merged").split("## Settings")[0]
    assert "llama-cli" in card(run, "gguf")
    assert "ollama create" in card(run, "ollama")


def test_a_run_with_little_to_tell(runs_root: Path, make_plan: Callable[..., Any]) -> None:
    plan = make_plan()
    config = dataclasses.replace(plan.config, adapter=AdapterSection(kind="none"))
    made = Run.create(dataclasses.replace(plan, config=config), runs_root, "r2")
    made.config_path.unlink()
    text = card(made, "model")
    assert "(every weight)" in text
    assert "the file is gone" in text
    assert "loss at the end" not in text
    assert "Ledger" not in text


@pytest.mark.parametrize(("name", "shown"), [
    ("org/model", "org/model"), ("model", "model"), ("/a/b/model/", "model"), ("./x/m", "m"),
    ("~/m", "m"), ("data/own/rows.jsonl", "rows.jsonl"),
])  # fmt: skip
def test_names_for_everyone(name: str, shown: str) -> None:
    assert public(name) == shown
