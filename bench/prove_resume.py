"""Does the starter run repeat, and survive SIGKILL, bit for bit? Prints one table.

    python bench/prove_resume.py                        # two straight runs, one with 10 kills
    python bench/prove_resume.py --kills 20 --steps 12 --seed 7

The instants of the kills are random over everything a trainer does: loading, steps, checkpoints.
Compared are the digest of the ledger and the sha256 of the exported adapter. Exit code 1 when
anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ftlab import ledger
from ftlab.run import Run

POLL = 0.05  # seconds


def main() -> int:
    """Run, kill, resume, compare."""
    args = arguments()
    work = Path(args.work or tempfile.mkdtemp(prefix="ftlab-proof-"))
    print(f"working in {work}", file=sys.stderr)
    ftrun("demo", "--prepare", str(work / "starter"), cwd=work)
    straight = [straight_run(args, work, f"straight-{number}") for number in (1, 2)]
    killed = killed_run(args, work, *straight[0])
    rows = [("straight 1", straight[0][0], 0), ("straight 2", straight[1][0], 0),
            ("killed and resumed", killed, args.kills)]  # fmt: skip
    print(f"{'run':<20} {'kills':>5}  {'steps':>5}  {'ledger':<16}  adapter")
    for name, run, count in rows:
        last = ledger.read(run.ledger_path)[-1].step
        print(f"{name:<20} {count:>5}  {last:>5}  {marks(run)[0][:16]}  {marks(run)[1][:16]}")
    same = len({marks(run) for _, run, _ in rows}) == 1
    print("bit for bit the same" if same else "NOT THE SAME")
    return 0 if same else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs (default: 10)")
    parser.add_argument("--steps", type=int, help="train.max_steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (default: 0)")
    parser.add_argument("--work", help="folder for the runs (default: a temporary one)")
    return parser.parse_args()


def straight_run(args: argparse.Namespace, work: Path, name: str) -> tuple[Run, float]:
    """One uninterrupted run, and its seconds from start to end."""
    began = time.monotonic()
    run = start(args, work, name)
    while run.liveness() == "running":
        time.sleep(POLL)
    demand(run)
    return run, time.monotonic() - began


def killed_run(args: argparse.Namespace, work: Path, straight: Run, seconds: float) -> Run:
    """A run that is killed `args.kills` times, spread over all its steps, and resumed each time.

    Each kill waits for a step drawn from the whole run and then for up to two more steps' time, so
    that it falls into loading, a step, or a checkpoint.
    """
    instants = random.Random(args.seed)
    steps = ledger.read(straight.ledger_path)[-1].step
    targets = sorted(instants.randrange(steps) for _ in range(args.kills))
    run = start(args, work, "killed")
    for target in targets:
        while run.liveness() == "running" and done(run) < target:
            time.sleep(POLL)
        time.sleep(instants.uniform(0, 2) * seconds / steps)
        process = run.process()
        if run.liveness() != "running" or process is None:
            sys.exit(f"the run ended before the kill at step {target}: nothing is proven")
        os.kill(process.pid, signal.SIGKILL)
        while run.liveness() == "running":  # a killed process takes a moment to go
            time.sleep(POLL)
        print(f"killed after step {done(run)}", file=sys.stderr)
        ftrun("resume", str(run.path), "--detach", cwd=work)
    while run.liveness() == "running":
        time.sleep(POLL)
    demand(run)
    return run


def done(run: Run) -> int:
    """Steps in the ledger, which is written as they end."""
    records = ledger.read(run.ledger_path) if run.ledger_path.exists() else []
    return records[-1].step if records else 0


def start(args: argparse.Namespace, work: Path, name: str) -> Run:
    """Start the starter recipe in the background."""
    recipe = Path(__file__).resolve().parents[1] / "recipes" / "starter.yaml"
    steps = ["--set", f"train.max_steps={args.steps}"] if args.steps else []
    ftrun("train", str(recipe), "--detach", "--name", name, "--set", "train.save_every=2", *steps,
          cwd=work)  # fmt: skip
    return Run.find(str(work / "runs" / name), work / "runs")


def ftrun(*words: str, cwd: Path) -> None:
    """One command of the product, as a user would give it."""
    cwd.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "ftlab", *words], cwd=cwd, check=True, stdout=subprocess.DEVNULL
    )


def demand(run: Run) -> None:
    """Exit unless the run came to its end."""
    if run.liveness() != "done":
        sys.exit(f"run {run.id} is {run.liveness()}: see {run.log_path}")


def marks(run: Run) -> tuple[str, str]:
    """Digest of the ledger, sha256 of the adapter's weights."""
    weights = (run.export_dir / "adapter" / "adapter_model.safetensors").read_bytes()
    return ledger.digest(run.ledger_path), hashlib.sha256(weights).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
