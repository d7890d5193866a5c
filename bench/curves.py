"""Loss curves of this project beside transformers + PEFT on a real model, against the peer's noise.

    python bench/curves.py --model FOLDER --train gsm8k_train.jsonl --test gsm8k_test.jsonl

Every side takes the same batches (rows with `question` and `answer`, through the model's chat
template; answers are trained), the same adapter to begin with, AdamW and learning rates. Three runs
of transformers + PEFT that differ in nothing but the order of sums (attention's implementation,
micro-batches, order of rows) tell how far equal training drifts apart: the largest distance between
two of them is the floor. This project's curve is within it where its middle distance to the three
is no larger. Distance: the root mean square of the difference of the losses over the steps. Then
each side answers the test rows greedily, and its loss on them is computed by the same code.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
# Side: attention, rows of a micro-batch, whether they are laid out in reverse.
PEERS = {"peft": ("sdpa", 16, False), "peft-eager": ("eager", 16, False),
         "peft-parts": ("sdpa", 8, True)}  # fmt: skip
SIDES = ("ftlab", *PEERS)
ROWS = 16  # of an optimizer step
LENGTH = 768  # tokens of the longest row
PEAK_LR, WARM_UP = 2e-4, 10
CLIP = 1.0


def main() -> int:
    """Train every side, all at once, and print a table; 1 where one fails or leaves the floor."""
    args = arguments()
    if args.child:
        side, precision = args.child.split(":")
        print(json.dumps(measure(args, side, precision)), flush=True)
        return 0
    jobs = [(precision, side) for precision in args.precision for side in SIDES]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for begin in range(0, len(jobs), args.at_once):
        running = {job: start(*job) for job in jobs[begin : begin + args.at_once]}
        found.update({job: finish(job, child) for job, child in running.items()})
    failed = False
    for precision in args.precision:
        failed |= not report(precision, {side: found[precision, side] for side in SIDES})
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--train", type=Path, required=True, help="JSON lines, .gz or not")
    parser.add_argument("--test", type=Path, required=True, help="JSON lines, .gz or not")
    parser.add_argument("--precision", nargs="+", default=["bf16", "nf4"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=1319)
    parser.add_argument("--new-tokens", type=int, default=192, help="of an answer")
    parser.add_argument("--at-once", type=int, default=4, help="sides at one time; 16 GB a peer")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def start(precision: str, side: str) -> subprocess.Popen[str]:
    """A side in a process of its own."""
    command = [sys.executable, *sys.argv, "--child", f"{side}:{precision}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job: tuple[str, str], child: subprocess.Popen[str]) -> dict[str, Any]:
    """What a side said; its last words where it said nothing."""
    out, err = child.communicate()
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if child.returncode or not lines:
        print(f"{' '.join(job)} failed: {err[-1500:]}", file=sys.stderr)
        return {}
    return dict(json.loads(lines[-1]))


def report(precision: str, found: dict[str, dict[str, Any]]) -> bool:
    """The table of a precision; whether this project is within the floor."""
    for side, said in found.items():
        if not said:
            print(f"{precision:<6}{side:<12}failed")
            continue
        losses = said["losses"]
        print(
            f"{precision:<6}{side:<12}loss {losses[0]:.5f} -> mean of the last 20 "
            f"{statistics.mean(losses[-20:]):.5f}  test loss {said['test_loss']:.5f}  "
            f"exact match {said['correct']}/{said['asked']}"
        )
    if not all(found.values()):
        return False
    floor = max(distance(found[a], found[b]) for a, b in itertools.combinations(PEERS, 2))
    ours = [distance(found["ftlab"], found[peer]) for peer in PEERS]
    within = statistics.median(ours) <= floor
    print(
        f"{precision:<6}floor {floor:.6f}, this project {' '.join(f'{x:.6f}' for x in ours)}: "
        f"{'within' if within else 'NOT within'}",
        flush=True,
    )
    return within


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Root mean square of the difference of two loss curves."""
    apart = np.asarray(one["losses"]) - np.asarray(other["losses"])
    return float(np.sqrt(np.mean(apart**2)))


def measure(args: argparse.Namespace, side: str, precision: str) -> dict[str, Any]:
    """Train one side; its losses, and what it knows of the test rows."""
    import torch

    from ftlab.evaluation.exact_match import exact_match, final_number
    from ftlab.models.load import load_tokenizer
    from ftlab.train.numerics import make_deterministic

    make_deterministic(2)
    tokenizer = load_tokenizer(str(args.model), offline=True)
    model = load(args, precision)
    with tempfile.TemporaryDirectory() as folder:
        batches = read(args.train, tokenizer, Path(folder) / "train", args.steps)
        test = read(args.test, tokenizer, Path(folder) / "test", None)
        losses = ours(model, batches) if side == "ftlab" else theirs(model, batches, *PEERS[side])
        asked = rows(args.test)[: args.test_rows]
        with torch.no_grad():
            model.eval()
            test_loss = on_test(model, test, args.test_rows)
        chats = [([{"role": "user", "content": q}], a) for q, a in asked]
        score = exact_match(
            model, tokenizer, chats, max_new_tokens=args.new_tokens, batch_size=440,
            reduce=final_number,
        )  # fmt: skip
    correct = sum(answer.correct for answer in score.answers)
    return {"losses": losses, "test_loss": test_loss, "correct": correct, "asked": len(asked)}


def load(args: argparse.Namespace, precision: str) -> Any:
    """The PEFT module that every side trains: A by name, B zero."""
    from ftlab.models.load import load_model
    from ftlab.schema import AdapterSection

    compute = "fp32" if precision == "fp32" else "bf16"
    loaded = load_model(
        str(args.model), precision=precision, compute_dtype=compute, device=args.device,
        adapter=AdapterSection(r=16, lora_alpha=16, lora_dropout=0.0), offline=True,
    )  # fmt: skip
    return loaded.model


def rows(path: Path) -> list[tuple[str, str]]:
    """Question and answer of each line."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [(row["question"], row["answer"]) for row in map(json.loads, file)]


def read(path: Path, tokenizer: Any, folder: Path, steps: int | None) -> Any:
    """The rows as batches of one micro-batch each: `steps` shuffled, or all in order (None)."""
    from ftlab.data.batches import build
    from ftlab.data.tokens import StoreWriter

    with StoreWriter(folder, preference=False) as writer:
        for question, answer in rows(path):
            chat = [{"role": "user", "content": question}]
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            parts = [
                tokenizer(part, add_special_tokens=False)["input_ids"]
                for part in (text, answer + tokenizer.eos_token)
            ]
            trained = np.repeat([0, 1], [len(part) for part in parts])
            writer.append(np.asarray([*parts[0], *parts[1]], np.int64), trained, [[len(trained)]])
        store = writer.finish()
    return build(
        store, seed=0, epochs=1, max_steps=steps, batch_size=ROWS, micro_batch_size=ROWS,
        max_length=LENGTH, overlong="truncate", packing=False, shuffle=steps is not None,
    )  # fmt: skip


def learning_rate(step: int) -> float:
    """Linear warm-up, then constant."""
    return PEAK_LR * min(1.0, (step + 1) / WARM_UP)


def ours(model: Any, batches: Any) -> list[float]:
    """This project's loop."""
    from ftlab.models.attach import attach
    from ftlab.train.flat_gradients import FlatGradients
    from ftlab.train.loop import fit
    from ftlab.train.memory import rehearse
    from ftlab.train.objectives.sft import Sft
    from ftlab.train.optimizers import optimizer

    decoder = attach(model)
    made = optimizer("adamw", decoder.trainable())
    gradients = FlatGradients(made)
    decoder.keep_gradients(gradients.views)
    rehearse(decoder, Sft(), batches, gradients)
    if decoder.device.type == "cuda":
        decoder.replay()
    kept = _Losses()
    fit(decoder, Sft(), batches, made, learning_rate, [kept], max_grad_norm=CLIP,
        gradients=gradients)  # fmt: skip
    return kept.losses


class _Losses:
    """A hook that keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def begin(self, step: int) -> None:
        """Nothing to do."""

    def after_step(self, result: Any) -> None:
        """One more."""
        self.losses.append(result.loss)


def theirs(model: Any, batches: Any, attention: str, micro: int, reverse: bool) -> list[float]:
    """A plain loop over transformers + PEFT."""
    import torch

    model.get_base_model().set_attn_implementation(attention)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    made = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)
    losses = []
    for index in range(batches.steps):
        step = batches.step(index)
        sequences = [row for part in step.micro for row in split(part)]
        if reverse:
            sequences.reverse()
        total = 0.0
        for begin in range(0, len(sequences), micro):
            loss = summed(model, sequences[begin : begin + micro]) / step.trained_tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        for group in made.param_groups:
            group["lr"] = learning_rate(index)
        made.step()
        made.zero_grad()
        losses.append(total)
    return losses


def split(micro: Any) -> list[tuple[Any, Any]]:
    """(ids, labels) of every sequence of a micro-batch."""
    bounds = micro.cu_seqlens.tolist()
    return [(micro.input_ids[a:b], micro.labels[a:b]) for a, b in itertools.pairwise(bounds)]


def summed(model: Any, sequences: list[tuple[Any, Any]]) -> Any:
    """The sum of the trained tokens' losses, over sequences padded on the right."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(ids) for ids, _ in sequences)
    ids, labels, mask = (
        np.full((len(sequences), longest), fill, np.int64) for fill in (0, -100, 0)
    )
    for row, (some, wanted) in enumerate(sequences):
        ids[row, : len(some)], labels[row, : len(some)], mask[row, : len(some)] = some, wanted, 1
    placed = [torch.from_numpy(x).to(model.device) for x in (ids, labels, mask)]
    logits = model(input_ids=placed[0], attention_mask=placed[2], use_cache=False).logits
    return cross_entropy(logits.float().flatten(0, 1), placed[1].flatten(), reduction="sum")


def on_test(model: Any, batches: Any, limit: int) -> float:
    """Mean loss of the answers of the test rows."""
    steps = [batches.step(index) for index in range(min(batches.steps, -(-limit // ROWS)))]
    total = sum(
        float(summed(model, [row for part in step.micro for row in split(part)])) for step in steps
    )
    return total / sum(step.trained_tokens for step in steps)


if __name__ == "__main__":
    sys.exit(main())
