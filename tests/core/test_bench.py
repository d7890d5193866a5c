"""The comparison of bench/ from end to end on the CPU: the sides that exist here, a tiny model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench/compare.py, whatever else is called so."""
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_compare", BENCH / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in ("sides", "random_model"):
        sys.modules.pop(name, None)


@pytest.fixture
def here(compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Children run in this process: importing transformers twice more would take most of it."""

    def ask(job: dict[str, Any], seconds: float, expected: float | None) -> list[dict[str, Any]]:
        shown = capsys.readouterr().out  # what was printed before
        compare.measure({**job, "expected": expected})
        lines = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
        print(shown, end="")
        assert "ms" not in lines[0]  # what is checked is known before anything is timed
        return [{**job, **lines[-1]}]

    monkeypatch.setattr(compare, "ask", ask)
    return compare


def run(compare: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    given = ["compare.py", "--cases", "tiny", "--device", "cpu", "--steps", "1", *options]
    monkeypatch.setattr(sys, "argv", given)
    code: int = compare.main()
    return code


def test_our_side_and_peft_agree(
    here: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(here, monkeypatch, "--sides", "ftlab", "peft", "--modes", "none", "--json") == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["side"], r["mode"]) for r in results] == [
        ("ftlab", "none"), ("peft", "none"),
    ]  # fmt: skip
    for result in results:
        assert result["verdict"] == "ok"
        assert result["ms"] > 0
        assert result["grad_norm"] == pytest.approx(results[0]["grad_norm"], rel=0.02)


def test_a_side_that_disagrees_is_not_timed(
    compare: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = type("Args", (), {
        "rank": 4, "dropout": 0.0, "steps": 1, "device": "cpu", "tokenizer": None,
        "sides": ["ftlab"], "budget": [], "modes": None,
    })  # fmt: skip
    (job,) = compare.jobs(args, "tiny")
    compare.measure({**job, "expected": 1.0})
    (line,) = capsys.readouterr().out.splitlines()
    assert "ms" not in json.loads(line)


def test_verdicts(compare: Any) -> None:
    first = {"loss": 6.0, "without_grad": 0}
    assert compare.verdict(first, first) == "ok"
    assert "no gradient" in compare.verdict({**first, "without_grad": 3}, first)
    assert "first side has 6.0" in compare.verdict({**first, "loss": 6.1}, first)
    assert "first side has 6.0" in compare.verdict({**first, "loss": float("nan")}, first)
    assert compare.verdict({"error": "gone"}, first) == "failed: gone"


def test_no_time_left_is_said(
    compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(compare, monkeypatch, "--sides", "ftlab", "--seconds", "1") == 1
    assert "failed: no time left" in capsys.readouterr().out


def test_a_child_that_fails_says_why(
    compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare.sys, "executable", "/bin/false")
    (found,) = compare.ask({"side": "ftlab", "budgets": [None]}, 10.0, None)
    assert found["error"] == "exit code 1: no output"


def test_curves_of_equal_training_are_within_the_floor(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = load(BENCH / "curves.py")
    model, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    small_chat_model(model)
    pairs = [{"question": f"{n} + {n} =", "answer": f"#### {2 * n}"} for n in range(1, 33)]
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    given = f"curves.py --model {model} --train {rows} --test {rows} --steps 2 --precision fp32"
    given += " --test-rows 4 --new-tokens 4 --device cpu"
    monkeypatch.setattr(sys, "argv", given.split())
    args = curves.arguments()
    found = {side: curves.measure(args, side, "fp32") for side in curves.SIDES}
    losses = {side: said["losses"] for side, said in found.items()}
    for side in curves.SIDES:
        assert losses[side] == pytest.approx(losses["peft"], rel=1e-5)
        assert losses[side][0] > 1
        assert found[side]["test_loss"] == pytest.approx(found["peft"]["test_loss"], rel=1e-5)
        assert found[side]["asked"] == 4
    assert curves.distance(found["ftlab"], found["peft"]) < 1e-4
    far = {**found, "ftlab": {**found["ftlab"], "losses": [9.0, 9.0]}}
    capsys.readouterr()
    assert not curves.report("fp32", far)
    assert "NOT within" in capsys.readouterr().out
    assert not curves.report("fp32", {**found, "peft": {}})


def small_chat_model(folder: Path) -> None:
    """A random Llama of 2 layers and a tokenizer of characters with a chat template."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: n for n, word in enumerate(["</s>", *"0123456789+=# ?u:a\n"])}
    made = Tokenizer(models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="</s>", unk_token="?"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}u:{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=None, eos_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
