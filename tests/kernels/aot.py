"""Compile kernels ahead of time for cards that are not here: shared memory, registers, spills.

One child process compiles a whole list, because a kernel that this process interprets cannot be
compiled in it, and because importing triton costs a second. Works with triton 3.0 and 3.6.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = (70, 75, 80, 86, 89, 90)
SHARED_LIMIT = {  # bytes one block may have
    70: 96 * 1024, 75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024,
}  # fmt: skip
TIMEOUT = 900  # seconds for one list


@dataclass(frozen=True)
class Job:
    """One kernel to compile: as a launch with these argument types would."""

    kernel: Any  # a @triton.jit function at the top of a module
    signature: Mapping[str, str]  # arguments that are no constexprs: "*bf16", "i32", "i64", "fp32"
    constexprs: Mapping[str, Any]
    capability: int
    num_warps: int = 4
    num_stages: int = 2
    unaligned: Sequence[str] = ()  # pointers not divisible by 16
    aligned: Sequence[str] = ()  # integers divisible by 16
    options: tuple[tuple[str, Any], ...] = ()  # further compiler options

    def described(self) -> dict[str, Any]:
        """The job as JSON carries it to the child."""
        function = getattr(self.kernel, "fn", self.kernel)
        divisible = [name for name, kind in self.signature.items() if kind.startswith("*")]
        divisible = [name for name in divisible if name not in self.unaligned]
        return {
            "module": function.__module__, "name": function.__name__,
            "signature": dict(self.signature), "constexprs": dict(self.constexprs),
            "capability": self.capability, "divisible": [*divisible, *self.aligned],
            "options": {"num_warps": self.num_warps, "num_stages": self.num_stages,
                        **dict(self.options)},
        }  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """What one kernel needs of a card."""

    shared_bytes: int
    spills: int  # bytes stored and loaded again for want of registers
    registers: int  # of one thread


def compile_for(
    kernel: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], capability: int,
    num_warps: int = 4, num_stages: int = 2, **more: Any,
) -> Compiled:  # fmt: skip
    """Compile one kernel in a child process."""
    job = Job(kernel, signature, constexprs, capability, num_warps, num_stages, **more)
    return compile_many([job])[0]


def compile_many(jobs: Sequence[Job]) -> list[Compiled]:
    """Compile a list in one child process; AssertionError with its words when one fails."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    environment.pop("COVERAGE_PROCESS_START", None)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "kernels"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).resolve())],
        input=json.dumps([job.described() for job in jobs]),
        capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(jobs)
    return [Compiled(**result) for result in results]


def _child() -> None:
    """Compile what standard input lists; print the results as one line of JSON."""
    results = []
    for job in json.load(sys.stdin):
        try:
            results.append(_compile(job))
        except Exception as error:
            print(f"{job['name']} for sm_{job['capability']}: {job}", file=sys.stderr)
            raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(json.dumps(results))


def _compile(job: dict[str, Any]) -> dict[str, int]:
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(job["module"]), job["name"])
    signature, constexprs = dict(job["signature"]), job["constexprs"]
    constexprs = {name: _constant(value) for name, value in constexprs.items()}
    positions = {name: index for index, name in enumerate(kernel.arg_names)}
    unknown = (set(signature) | set(constexprs)) ^ set(positions)
    assert not unknown, f"missing or unknown arguments: {sorted(unknown)}"
    ordered = {name: signature[name] for name in positions if name in signature}
    if triton.__version__.startswith("3.0."):
        from triton.compiler import AttrsDescriptor

        attrs = AttrsDescriptor({positions[name] for name in job["divisible"]}, set())
        source = ASTSource(kernel, ordered, constexprs, attrs)
    else:
        every = {name: signature.get(name, "constexpr") for name in positions}
        attrs = {(positions[name],): [["tt.divisibility", 16]] for name in job["divisible"]}
        source = ASTSource(kernel, every, constexprs, attrs)
    target = GPUTarget("cuda", job["capability"], 32)
    built = triton.compile(source, target=target, options=job["options"])
    return {"shared_bytes": built.metadata.shared, **_assembled(built.asm["ptx"])}


def _constant(value: Any) -> Any:
    """Element types travel by name: "tl.float32"."""
    import triton.language as tl

    if isinstance(value, str) and value.startswith("tl."):
        return getattr(tl, value.removeprefix("tl."))
    return value


def _assembled(ptx: str) -> dict[str, int]:
    """Ask triton's own assembler what it says of registers and spills."""
    import triton

    version, target = (
        re.search(rf"^\s*\.{word}\s+(\S+)", ptx, re.MULTILINE)[1]  # type: ignore[index]
        for word in ("version", "target")
    )
    del version
    folder = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        done = subprocess.run(
            [str(folder / "ptxas"), "-v", f"--gpu-name={target.rstrip(',')}", file.name,
             "-o", os.devnull],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    stores = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    registers = re.findall(r"Used (\d+) registers", done.stderr)
    return {"spills": sum(map(int, stores)), "registers": max(map(int, registers))}


if __name__ == "__main__":
    _child()
