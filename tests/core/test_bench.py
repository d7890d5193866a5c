"""The comparisons of bench/ from end to end on the CPU: the sides that exist here, a tiny model."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BENCH = Path(__file__).resolve().parents[2] / "bench"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A script of bench/, whatever else is called so."""
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for sibling in ("sides", "random_model", "compare"):
        sys.modules.pop(sibling, None)


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench/compare.py."""
    yield from script("compare", monkeypatch)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench/longest.py."""
    yield from script("longest", monkeypatch)


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
        "sides": ["ftlab"], "budget": [], "modes": None, "length": None, "cap": None,
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


def test_a_budget_that_nothing_fits_is_not_a_failed_child(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {"budget": None, "without_grad": 0, "ms": 3.0},
        {"budget": "1GiB", "without_grad": 0, "error": "nothing fits this budget"},
    ]
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\n" + "".join(f"echo '{json.dumps(row)}'\n" for row in lines))
    child.chmod(0o755)
    monkeypatch.setattr(compare.sys, "executable", str(child))
    found = compare.ask({"side": "ftlab", "budgets": [None, "1GiB", "2GiB"]}, 10.0, None)
    assert [row.get("error") for row in found] == [
        None, "nothing fits this budget", "no result: no output",
    ]  # fmt: skip


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


def test_a_row_may_have_another_length(compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py", "--length", "96", "--cap", "2GiB"])
    jobs = compare.jobs(compare.arguments(), "long")
    assert {job["length"] for job in jobs} == {96}
    assert {job["cap"] for job in jobs} == {"2GiB"}
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    assert {job["length"] for job in compare.jobs(compare.arguments(), "long")} == {32768}


@pytest.mark.parametrize("fits", [0, 300, 20_000, 100_000, 262_144, 1 << 30])
def test_the_longest_that_fits_is_found(longest: Any, fits: int) -> None:
    tried: list[int] = []

    def attempt(length: int) -> dict[str, Any]:
        tried.append(length)
        return {"length": length, "verdict": "ok" if length <= fits else "no: memory"}

    found = longest.longest(attempt, 16384, 1 << 20, time.monotonic() + 60)
    assert len(tried) == len(set(tried)) < 20
    if fits < longest.LEAST:
        assert found is None
        return
    assert found["length"] == longest.grid(min(fits, 1 << 20))
    assert all(longest.grid(length) == length for length in tried)


def test_a_search_ends_with_its_time(longest: Any) -> None:
    def attempt(length: int) -> dict[str, Any]:
        late = length > 32768
        return {"length": length, "verdict": "no time: stopped after 9 s" if late else "ok"}

    assert longest.longest(attempt, 16384, 1 << 20, time.monotonic() + 60)["length"] == 32768
    assert longest.longest(attempt, 16384, 1 << 20, time.monotonic() - 1) is None


def test_running_out_of_memory_is_an_answer(longest: Any) -> None:
    for error in (
        "exit code 1: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "exit code 1: nothing fits this budget", "exit code -9: no output",
    ):  # fmt: skip
        assert longest.verdict({"error": error}, short=False) == "no: memory"
    assert longest.verdict({"ms": 3.0, "without_grad": 0}, short=False) == "ok"
    assert "no gradient" in longest.verdict({"without_grad": 2}, short=False)
    assert longest.verdict({"error": "stopped after 9 s: x"}, short=True).startswith("no time")
    assert longest.verdict({"error": "stopped after 9 s: x"}, short=False).startswith("no: stopped")
    assert longest.verdict({"error": "exit code 1: TypeError"}, short=False).startswith("failed")


def test_an_attempt_of_our_side(
    longest: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(job: dict[str, Any], seconds: float, expected: float | None) -> list[dict[str, Any]]:
        longest.compare.measure({**job, "expected": expected})
        return [{**job, **json.loads(capsys.readouterr().out.splitlines()[-1])}]

    monkeypatch.setattr(longest.compare, "ask", ask)
    options = ["--shape", "tiny", "--precision", "bf16", "--cap", "8GiB", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["longest.py", *options, "--host", "1GiB"])
    found = longest.try_length(longest.arguments(), "ftlab", "none", 64, 60.0)
    assert found["verdict"] == "ok"
    assert found["length"] == 64
    assert found["note"].startswith("predicted")


def test_our_side_begins_with_the_longest_that_its_plan_allows(
    longest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths on an 8 B model with a cap; a plan that refuses needs no child."""
    options = ["--cap", "16GiB", "--host", "100GiB"]
    monkeypatch.setattr(sys, "argv", ["longest.py", *options])
    args = longest.arguments()
    start = longest.planned(args)
    assert start > 120_000
    assert longest.grid(start) == start
    assert longest.fits(args, start)
    monkeypatch.setattr(longest.compare, "ask", None)
    assert longest.try_length(args, "ftlab", "none", 2 * start, 60.0)["verdict"].startswith("no:")
