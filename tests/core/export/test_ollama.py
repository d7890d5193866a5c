"""Chat templates in Ollama's language: read off, proven by rendering, or left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ftlab.data.chat import resolve
from ftlab.export.ollama import Turns, read_off, write_modelfile

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "{% for m in messages %}<start>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<start>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ m.content + eos_token }}{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)


def tokenizer(template: str, *, bos: bool = False) -> Any:
    made = Tokenizer(models.WordLevel({"a": 0, "<s>": 1, "</s>": 2}, unk_token="a"))
    made.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start>", "<end>"])
    if bos:
        made.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    found = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    found.chat_template = template or None
    return found


def go(template: str, messages: list[dict[str, str]]) -> str:
    """The few words of Go's text/template that are written, as Ollama runs them."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    head, loop = re.fullmatch(
        r"(.*?)\{\{ range \$i, \$_ := \.Messages \}\}(.*)\{\{ end \}\}", template, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    chosen = re.fullmatch(
        r"\{\{ if \.System \}\}(.*)\{\{ else \}\}(.*)\{\{ end \}\}", head, re.DOTALL
    )
    text = head if chosen is None else chosen[1 if system else 2].replace("{{ .System }}", system)
    role = r'if eq \.Role "{}"'
    user, answer = re.fullmatch(
        rf"\{{\{{ {role.format('user')} \}}\}}(.*)"
        rf"\{{\{{ else {role.format('assistant')} \}}\}}(.*)\{{\{{ end \}}\}}",
        loop, re.DOTALL,
    ).groups()  # type: ignore[union-attr]  # fmt: skip
    first = "{{ if and $.System (le $i 1) }}{{ $.System }}\n\n{{ end }}"
    for number, message in enumerate(messages):
        part = {"user": user, "assistant": answer}.get(message["role"], "")
        part = part.replace(first, f"{system}\n\n" if system and number <= 1 else "")
        text += part.replace("{{ .Content }}", message["content"])
    return text


def dialogue(*, system: bool) -> list[dict[str, str]]:
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    first = [("system", "Be brief.")] if system else []
    return [{"role": role, "content": content} for role, content in [*first, *said]]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("template", [CHATML + ASK, MISTRAL, "chatml", "alpaca"])
@pytest.mark.parametrize("system", [False, True])
def test_it_renders_the_same(template: str, system: bool, bos: bool) -> None:
    words = tokenizer("" if template in ("chatml", "alpaca") else template, bos=bos)
    if not words.chat_template:
        words.chat_template = resolve(words, template).text
    turns = read_off(words)
    assert turns is not None
    messages = dialogue(system=system)
    wanted = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    # Ollama puts the BOS there itself where the tokenizer does.
    assert go(turns.ollama(), messages) == (wanted.removeprefix("<s>") if bos else wanted)


def test_without_a_system_role_it_begins_the_first_question() -> None:
    words = tokenizer(GEMMA)
    turns = read_off(words)
    assert turns is not None
    assert turns.system is None
    merged = dialogue(system=False)
    merged[0]["content"] = "Be brief.\n\nHi"
    wanted = words.apply_chat_template(merged, tokenize=False, add_generation_prompt=True)
    assert go(turns.ollama(), dialogue(system=True)) == wanted


def test_the_real_small_model(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    turns = read_off(AutoTokenizer.from_pretrained(smollm2))
    assert turns is not None
    assert turns.user == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    assert turns.system == ("<|im_start|>system\n", "<|im_end|>\n")
    assert turns.end == "<|im_end|>\n"
    assert "named SmolLM" in turns.head  # its template has a system message of its own


@pytest.mark.parametrize("template", [
    "", CHATML, "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}" + ASK,
    '"' + CHATML + ASK, "{{ raise_exception('never') }}", GEMMA.replace("<start>model", "<s>model"),
])  # fmt: skip
def test_what_does_more_is_left_out(template: str) -> None:
    assert read_off(tokenizer(template)) is None


def test_the_file(tmp_path: Path) -> None:
    assert write_modelfile(tmp_path, "a.gguf", tokenizer(CHATML + ASK), 512) == []
    written = (tmp_path / "Modelfile").read_text()
    assert written.startswith('FROM ./a.gguf\nTEMPLATE """')
    assert written.endswith('"""\nPARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 512\n')
    (note,) = write_modelfile(tmp_path, "a.gguf", tokenizer(CHATML), None)
    assert "ollama show" in note
    assert (tmp_path / "Modelfile").read_text() == "FROM ./a.gguf\n"
    assert write_modelfile(tmp_path, "a.gguf", tokenizer(""), None) == []


def test_a_start_that_the_system_message_lacks() -> None:
    """The parts say it whole even where no token ends an answer."""
    turns = Turns("", ("S:", "\n"), ("U:", "\nA:"), "\n")
    assert turns.render(dialogue(system=True)) == "S:Be brief.\nU:Hi\nA:Hello\nU:Why?\nA:"
