"""Training on real text through the trainers: this project's loop, and TRL's with Unsloth.

    python bench/trainer.py --case nf4 --text rows.jsonl --tokenizer FOLDER
    python bench/trainer.py --case tiny --text rows.jsonl --tokenizer FOLDER --device cpu

Texts (`text`, or `instruction`, `input` and `output`) are packed into rows of `--length` tokens,
two to a micro-batch, and every token is trained. What counts is the median of real tokens a second
over the steps, padding left out. Steps that compile or capture something are among the steps, which
is why the median is taken and not the sum. Each side runs in a process of its own over the same
random weights (`random_model`); a side whose loss is not finite has no speed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES = {
    "nf4": ("8b", "nf4"), "bf16": ("8b", "bf16"), "1b": ("1b", "nf4"),
    "smollm2": ("smollm2", "bf16"), "tiny": ("tiny", "bf16"),
}  # fmt: skip
ROWS = 2  # packed rows of a micro-batch
WARM = 4  # steps that are not counted


def main() -> int:
    """Measure every side; 1 where one fails."""
    args = arguments()
    if args.child:
        sys.path.insert(0, str(HERE))
        measured = {"ftlab": ours, "unsloth": theirs}[args.child](args)
        print(json.dumps(measured), flush=True)
        return 0
    failed = False
    for side in args.sides:
        command = [sys.executable, *sys.argv, "--child", side]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        failed |= done.returncode != 0 or not lines
        print(f"{args.case:<9}{side:<9}{lines[-1] if lines else 'failed'}", flush=True)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="nf4")
    parser.add_argument("--sides", nargs="+", choices=("ftlab", "unsloth"), default=["ftlab"])
    parser.add_argument("--text", type=Path, required=True, help="JSON lines")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a packed row")
    parser.add_argument("--batch", type=int, default=64, help="texts of a step of this project")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--mode", default="none", help="checkpointing of Unsloth")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def texts(path: Path) -> list[str]:
    """Texts of the rows."""
    found = []
    for row in map(json.loads, path.read_text("utf-8").splitlines()):
        parts = [row.get(name, "") for name in ("text", "instruction", "input", "output")]
        found.append("\n".join(part for part in parts if part))
    return found


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """The loop with ledger and events, graphs captured, batches read ahead."""
    import torch
    from sides import Task, ftlab_decoder

    from ftlab.data.batches import build
    from ftlab.events import EventWriter
    from ftlab.ledger import Ledger
    from ftlab.train.flat_gradients import FlatGradients
    from ftlab.train.loop import fit
    from ftlab.train.memory import rehearse
    from ftlab.train.numerics import make_deterministic
    from ftlab.train.objectives.sft import Sft
    from ftlab.train.optimizers import optimizer

    shape, precision = CASES[args.case]
    make_deterministic(8)
    task = Task(shape, ROWS, args.length, 16, 0.0, precision, "none", args.device)
    decoder, named = ftlab_decoder(task)
    made = optimizer("adamw" if args.device == "cpu" else "adamw_8bit", named)
    gradients = FlatGradients(made)
    decoder.keep_gradients(gradients.views)
    with tempfile.TemporaryDirectory() as folder:
        store = _store(args, Path(folder) / "store", decoder.spec.vocab_size)
        batches = build(
            store, seed=0, epochs=100, max_steps=args.steps + WARM, batch_size=args.batch,
            micro_batch_size=ROWS, max_length=args.length, overlong="truncate", packing=True,
        )  # fmt: skip
        rehearse(decoder, Sft(), batches, gradients)
        if args.device != "cpu":
            decoder.replay()
        with (
            Ledger.open(Path(folder) / "ledger") as ledger,
            EventWriter(Path(folder) / "events.jsonl") as events,
        ):
            clock = _Clock(ledger, events)
            fit(
                decoder, Sft(), batches, made, lambda step: 1e-5, [clock], max_grad_norm=1.0,
                gradients=gradients,
            )  # fmt: skip
    peak = torch.cuda.max_memory_allocated() if args.device != "cpu" else 0
    return clock.summary(peak)


class _Clock:
    """A hook that writes what a run writes, and notes tokens and time of every step."""

    def __init__(self, ledger: Any, events: Any) -> None:
        self.ledger, self.events = ledger, events
        self.at = time.perf_counter()
        self.steps: list[tuple[int, float, float]] = []  # real tokens, seconds, loss

    def begin(self, step: int) -> None:
        """Nothing yet."""

    def after_step(self, result: Any) -> None:
        """Ledger and event, as in a run."""
        self.ledger.append(
            step=result.step, loss=result.loss, grad_norm=result.grad_norm, lr=result.lr,
            trained_tokens=result.trained_tokens, batch_hash=result.batch_hash, state_hash=None,
        )  # fmt: skip
        self.events.write("step", step=result.step, loss=result.loss, lr=result.lr)
        now = time.perf_counter()
        self.steps.append((result.tokens, now - self.at, result.loss))
        self.at = now

    def summary(self, peak: int) -> dict[str, Any]:
        """What counts."""
        counted = self.steps[WARM:]
        losses = [loss for _, _, loss in counted]
        if not all(map(math.isfinite, losses)):
            raise SystemExit(f"the losses are {losses}")
        return {
            "tokens_per_s": round(statistics.median(n / s for n, s, _ in counted)),
            "all_tokens_per_s": round(
                sum(n for n, _, _ in counted) / sum(s for _, s, _ in counted)
            ),
            "step_ms": round(1000 * statistics.median(s for _, s, _ in counted), 1),
            "tokens_a_step": round(statistics.mean(n for n, _, _ in counted)),
            "loss": [round(losses[0], 3), round(losses[-1], 3)],
            "peak_gib": round(peak / 2**30, 2),
        }


def _store(args: argparse.Namespace, path: Path, vocabulary: int) -> Any:
    import numpy as np
    from tokenizers import Tokenizer

    from ftlab.data.tokens import StoreWriter

    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    with StoreWriter(path, preference=False) as writer:
        for made in tokenizer.encode_batch(texts(args.text)):
            ids = np.asarray([*made.ids, 0], np.int64) % vocabulary
            writer.append(ids, np.ones(len(ids)), np.asarray([[len(ids)]]))
        return writer.finish()


def theirs(args: argparse.Namespace) -> dict[str, Any]:
    """TRL's SFTTrainer over Unsloth's model, packing on."""
    # fmt: off
    import datasets
    import torch
    import trl
    import unsloth  # noqa: F401  it must come before transformers, as it asks
    from sides import Task, unsloth_model
    from transformers import TrainerCallback
    # fmt: on

    shape, precision = CASES[args.case]
    task = Task(
        shape, ROWS, args.length, 16, 0.0, precision, args.mode, args.device, args.tokenizer
    )
    model, tokenizer = unsloth_model(task)
    clock = _Clock(None, None)
    waiting: list[int] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            now = time.perf_counter()
            clock.steps.append((waiting.pop(0), now - clock.at, 0.0))
            clock.at = now

    trainer = trl.SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list([{"text": text} for text in texts(args.text)]),
        args=trl.SFTConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=ROWS, packing=True,
            max_length=args.length, max_steps=args.steps + WARM, optim="adamw_8bit", bf16=True,
            logging_steps=1, report_to="none", save_strategy="no", dataset_text_field="text",
            learning_rate=1e-5, gradient_accumulation_steps=1, dataset_num_proc=1,
        ),
        callbacks=[Watch()],
    )  # fmt: skip
    collate = trainer.data_collator

    def counted(rows: Any) -> Any:
        waiting.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counted
    clock.at = time.perf_counter()
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    clock.steps = [(n, s, loss) for (n, s, _), loss in zip(clock.steps, losses, strict=False)]
    return clock.summary(torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    sys.exit(main())
