"""Operators beside their peers in one run: `make bench OPS=all`, or `OPS="rms_norm nf4"`.

A file of this folder that defines `rows(bench)` measures one operator.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # the files of this folder import `timing` by its bare name

import torch  # noqa: E402
from timing import HEADER, Bench, as_json  # noqa: E402

BARE = {"__main__", "timing", "peers"}


def main() -> int:
    """Print the table; exit code 3 without a GPU, 1 when an operator cannot be measured."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in BARE)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="one JSON object to stdout")
    args = parser.parse_args()
    if args.ops == ["all"]:
        args.ops = names
    unknown = set(args.ops) - set(names)
    if unknown:
        parser.error(
            f"no such operator: {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    if not torch.cuda.is_available():
        print("benchmarks of kernels need a CUDA device; there is none", file=sys.stderr)
        return 3
    stdout = sys.stdout
    if args.json:
        sys.stdout = sys.stderr
    bench = Bench()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; "
          "ceilings: "
          f"copy {bench.copy_gbs:.0f} GB/s, matmul {bench.matmul_tflops:.0f} TFLOP/s")  # fmt: skip
    print(HEADER)
    failed = []
    for name in args.ops or names:
        try:
            importlib.import_module(name).rows(bench)
        except Exception as error:
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    if args.json:
        print(as_json(bench), file=stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
