"""Refusals and warnings from data and model: what cannot work, and what a person should know."""

from __future__ import annotations

from ftlab.facts import DataFacts
from ftlab.planning.draft import Draft
from ftlab.planning.length import usable_at
from ftlab.planning.steps import epoch_amounts, overlong_rows
from ftlab.planning.words import rows as rows_of
from ftlab.values import nearest

OTHER_MODULES = (
    "lm_head", "embed_tokens", "norm", "input_layernorm", "post_attention_layernorm",
    "pre_feedforward_layernorm", "post_feedforward_layernorm", "q_norm", "k_norm",
)  # fmt: skip


def check_data(draft: Draft, length: int) -> None:
    """Refuse data that the method cannot learn from; warn about what is lost."""
    data = draft.facts.data
    dpo = draft.config.method.kind == "dpo"
    if dpo and not data.preference:
        draft.refuse_config(
            "method.kind",
            f"dpo needs rows with prompt, chosen and rejected; these are {data.format} rows",
            "use method.kind: sft, or map your columns with data.columns",
        )
    elif not dpo and data.preference:
        draft.refuse_config(
            "method.kind",
            f"sft cannot learn from pairs, and these are {data.format} rows",
            "use method.kind: dpo; or data.format: prompt_completion with "
            "data.columns: {prompt: prompt, completion: chosen}",
        )
    _check_amount(draft, data, length)
    if draft.facts.eval_data is not None:
        _check_eval(draft, draft.facts.eval_data)
    _warn_about_rows(draft, data, length)


def _check_amount(draft: Draft, data: DataFacts, length: int) -> None:
    lost = ", ".join(f"{count:,} {reason}" for reason, count in data.skipped.items())
    if data.rows <= 0:
        draft.refuse_config(
            "data.source", f"no usable row in {data.source}", f"left out: {lost}" if lost else ""
        )
    elif data.trained_tokens <= 0:
        draft.refuse_config(
            "data.train_on",
            f"no token of {rows_of(data.rows, data.preference)} would carry loss",
            "the answers are empty or the chat template does not mark them; "
            "look at the sample, or use data.train_on: all",
        )
    elif epoch_amounts(data, length, draft.config.data.overlong)[0] <= 0:
        drop = draft.config.data.overlong == "drop"
        draft.refuse_config(
            "model.max_length",
            f"no row of {rows_of(data.rows, data.preference)} has a trained token within {length} "
            f"tokens{' and is short enough to be kept' if drop else ''}",
            "raise it" + (" or use data.overlong: truncate" if drop else ""),
        )


def _check_eval(draft: Draft, evaluation: DataFacts) -> None:
    data = draft.facts.data
    path = "data.eval_source" if draft.config.data.eval_source else "data.eval_fraction"
    if evaluation.rows <= 0 or evaluation.trained_tokens <= 0:
        draft.refuse_config(path, "the evaluation data has no row with a token to predict")
    if evaluation.preference != data.preference:
        draft.refuse_config(
            path, f"training rows are {data.format}, evaluation rows {evaluation.format}"
        )
    if evaluation.sha256 == data.sha256:
        draft.warnings.append("evaluation and training data are the same rows")


def _warn_about_rows(draft: Draft, data: DataFacts, length: int) -> None:
    known = usable_at(data, length)
    if known is not None and draft.config.data.overlong == "truncate" and known[0] < data.rows:
        lost = rows_of(data.rows - known[0], data.preference)
        draft.warnings.append(f"{lost} left out: no trained token within {length:,} tokens")
    for reason, count in data.skipped.items():
        draft.warnings.append(f"{rows_of(count, data.preference)} left out: {reason}")
    over = overlong_rows(data, length)
    if over:
        fate = "dropped" if draft.config.data.overlong == "drop" else "cut"
        share = 100 * over / max(1, data.rows)
        draft.warnings.append(
            f"{rows_of(over, data.preference)} ({share:.1f} %) longer than {length:,} tokens "
            f"will be {fate}; the longest has {data.longest:,}"
        )
    if data.duplicates:
        share = 100 * data.duplicates / max(1, data.rows)
        verb = "repeats" if data.duplicates == 1 else "repeat"
        draft.warnings.append(
            f"{rows_of(data.duplicates, data.preference)} ({share:.1f} %) {verb} another one"
        )


def decide_data(draft: Draft) -> None:
    """Record what was recognised: format, template, which tokens are trained."""
    data = draft.facts.data
    if draft.is_auto("data.format"):
        draft.decide("data.format", data.format, data.format_reason)
    if data.format == "text":
        _decide_text(draft)
    elif draft.is_auto("data.chat_template"):
        # "auto" stays the value: unlike a template's name, it leaves plain texts as they are.
        reason = data.template or "these rows need no chat template"
        draft.decide("data.chat_template", "auto", reason)


def _decide_text(draft: Draft) -> None:
    """Plain text has neither answers nor a template."""
    if draft.config.data.train_on != "all":
        draft.decide("data.train_on", "all", "plain text has no answers")
    if not draft.is_auto("data.chat_template"):
        draft.refuse_config(
            "data.chat_template",
            "has no effect: the rows are plain text, which is trained as it is",
            "delete it",
        )


def check_model(draft: Draft) -> None:
    """Refuse module names the model lacks; warn about what training leaves out."""
    adapter, spec = draft.config.adapter, draft.spec
    if adapter.kind == "lora":
        linears = (*spec.layer_linears(), "lm_head")
        if adapter.target_modules != "all-linear":
            _check_names(draft, "adapter.target_modules", adapter.target_modules, linears)
            _check_tied(draft, adapter.target_modules)
        modules = (*linears, *OTHER_MODULES)
        _check_names(draft, "adapter.modules_to_save", adapter.modules_to_save, modules)
        biased = any(spec.has_bias(name) for name in spec.layer_linears())
        if adapter.bias != "none" and not biased:
            draft.refuse_config(
                "adapter.bias",
                f"has no effect: {spec.architecture} has no bias vectors",
                "use none",
            )
    draft.warnings.extend(spec.notes)


def _check_names(draft: Draft, path: str, names: list[str] | str, known: tuple[str, ...]) -> None:
    for name in names:
        last = name.rpartition(".")[2]
        if last not in known:
            close = nearest(last, known)
            hint = f"did you mean {close}?" if close else f"known are {', '.join(known)}"
            draft.refuse_config(path, f"the model has no module {name!r}", hint)


def _check_tied(draft: Draft, names: list[str] | str) -> None:
    if draft.spec.tied_embeddings and any(n.rpartition(".")[2] == "lm_head" for n in names):
        draft.refuse_config(
            "adapter.target_modules",
            "lm_head shares its weight with embed_tokens and cannot carry LoRA",
            "name it in adapter.modules_to_save instead",
        )
