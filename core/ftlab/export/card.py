"""A model card: what was trained on what and how it came out, in Markdown, from the run's files.

Paths of this machine are left out, because a card is published: a local model or data set is named
by its last part, and known by its hash. What no run knows (intended use, licence, limits) is left
to the author, and said to be. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ftlab import manifest, summary
from ftlab.plan import Plan
from ftlab.progress import duration
from ftlab.run import Run

CARD = "README.md"
_LIBRARY = {"adapter": "peft", "merged": "transformers", "model": "transformers"}
_USE = {
    "adapter": (
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")',
        'model = AutoModelForCausalLM.from_pretrained("{base}")',
        'model = PeftModel.from_pretrained(model, "THIS FOLDER")',
    ),
    "merged": (
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")',
        'model = AutoModelForCausalLM.from_pretrained("THIS FOLDER")',
    ),
    "gguf": ("llama-cli -m FILE.gguf",),
    "ollama": ("ollama create NAME -f Modelfile", "ollama run NAME"),
}


def card(run: Run, form: str) -> str:
    """The card of what a run made.

    Args:
        form: adapter, model, merged, gguf or ollama: what lies beside the card.
    """
    plan = run.plan()
    made = manifest.read(run) or {}
    parts = [_front(plan, form), f"# {run.id}", _sentence(plan), _facts(run, plan, made)]
    parts += ["## Use", _use(plan, form)]
    parts += ["## Settings", "What was asked for:", _code("yaml", _config(run, plan))]
    if plan.decisions:
        parts += ["Chosen automatically:", _decisions(plan)]
    parts += ["## The same again", _again(run, made)]
    parts += ["## Not known to the run", "Intended use, licence, limits and risks: by the author."]
    return "\n\n".join(parts) + "\n"


def public(name: str) -> str:
    """A model's or data set's name without the folders of this machine."""
    local = name.startswith(("/", "~", ".")) or name.count("/") > 1
    return name.rstrip("/").rpartition("/")[2] if local else name


def _front(plan: Plan, form: str) -> str:
    """What the hub reads: YAML between lines."""
    kind = plan.config.method.kind
    lines = ["---", f"base_model: {json.dumps(public(plan.facts.model.name))}"]
    if form in _LIBRARY:
        lines.append(f"library_name: {_LIBRARY[form]}")
    tags = [kind, *(["lora"] if plan.config.adapter.kind == "lora" else []), "ftlab"]
    return "\n".join([*lines, f"tags: [{', '.join(tags)}]", "---"])


def _sentence(plan: Plan) -> str:
    adapter = plan.config.adapter
    how = f"LoRA of rank {adapter.r}" if adapter.kind == "lora" else "every weight"
    method = {"sft": "supervised fine-tuning", "dpo": "direct preference optimisation"}
    kind = method.get(plan.config.method.kind, plan.config.method.kind)
    model, data = public(plan.facts.model.name), public(plan.facts.data.source)
    return f"{model}, trained on {data} by {kind} ({how})."


def _facts(run: Run, plan: Plan, made: Mapping[str, Any]) -> str:
    rows = ["| | |", "|---|---|"]
    rows += [f"| {name} | {value} |" for name, value in _rows(run, plan, made) if value]
    return "\n".join(rows)


def _rows(run: Run, plan: Plan, made: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, data, seen = plan.facts.model, plan.facts.data, summary.of(run)
    weights = model.hashes.get("weights", "")
    yield "base model", _known(public(model.name), model.revision, weights, "weights")
    yield "data", _known(public(data.source), "", data.sha256, "tokens")
    yield "rows", f"{data.rows:,}, {data.trained_tokens:,} tokens trained on in an epoch"
    yield "steps", f"{seen['step']} of {plan.steps}" if seen["step"] else ""
    yield "loss at the end", "" if seen["loss"] is None else f"{seen['loss']:.4g}"
    figures = (seen["eval"] or {}).items()
    yield "evaluation", ", ".join(f"{k} {v:.4g}" for k, v in figures if isinstance(v, float))
    seconds = made.get("wall_seconds")
    yield "time", duration(float(seconds)) if seconds else ""
    yield "hardware", _hardware(made.get("identity") or {})


def _known(name: str, revision: str, digest: str, what: str) -> str:
    at = f" at {revision[:12]}" if revision else ""
    return f"{name}{at}" + (f" ({what} sha256 {digest[:16]})" if digest else "")


def _hardware(identity: Mapping[str, Any]) -> str:
    names = _value(identity, "gpu.name")
    if names:
        return ", ".join(names) if isinstance(names, list) else str(names)
    return str(_value(identity, "cpu") or "")


def _use(plan: Plan, form: str) -> str:
    lines = _USE["merged" if form == "model" else form]
    shown = "\n".join(lines).replace("{base}", public(plan.facts.model.name))
    return _code("sh" if form in ("gguf", "ollama") else "python", shown)


def _config(run: Run, plan: Plan) -> str:
    """The file as it was given, with names in the place of paths."""
    try:
        text = run.config_path.read_text(encoding="utf-8").strip()
    except OSError:
        return "# the file is gone"
    given = [plan.config.model.name, plan.config.data.source, plan.config.data.eval_source or ""]
    for path in sorted(filter(None, given), key=len, reverse=True):
        text = text.replace(path, public(path))
    return text


def _decisions(plan: Plan) -> str:
    rows = [f"| {name} | {made.value} |" for name, made in sorted(plan.decisions.items())]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _again(run: Run, made: Mapping[str, Any]) -> str:
    identity = made.get("identity") or {}
    names = ("ftlab", "torch", "transformers", "peft", "triton")
    versions = [f"{name} {v}" for name in names if (v := _value(identity, f"version.{name}"))]
    ledger = (made.get("ledger") or {}).get("sha256")
    said = [
        f"`ftrun bundle {run.id}` writes one file that `ftrun reproduce FILE` judges elsewhere."
    ]
    if versions:
        said.append(f"Made with {', '.join(versions)}.")
    if ledger:
        said.append(f"Ledger of every step: sha256 {ledger}.")
    return " ".join(said)


def _value(identity: Mapping[str, Any], name: str) -> Any:
    field = identity.get(name)
    return field.get("value") if isinstance(field, Mapping) else None


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
