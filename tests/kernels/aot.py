"""Compile kernels ahead of time for cards that are not here: shared memory, registers, spills.

Children compile, one a core, because a kernel that this process interprets cannot be compiled in
it. They live as long as the session (importing triton costs seconds) and keep what they made in
`.pytest_cache`, so that a second run compiles what changed. Works with triton 3.0 and 3.6.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = (70, 75, 80, 86, 89, 90)
SHARED_LIMIT = {  # bytes one block may have
    70: 96 * 1024, 75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024,
}  # fmt: skip


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


_made: dict[str, Compiled] = {}  # by the job as JSON: equal jobs of two tests compile once


def compile_for(
    kernel: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], capability: int,
    num_warps: int = 4, num_stages: int = 2, **more: Any,
) -> Compiled:  # fmt: skip
    """Compile one kernel in a child process."""
    job = Job(kernel, signature, constexprs, capability, num_warps, num_stages, **more)
    return compile_many([job])[0]


def compile_many(jobs: Sequence[Job]) -> list[Compiled]:
    """Compile a list, one job a core at a time; AssertionError names every job that fails."""
    asked = [json.dumps(job.described(), sort_keys=True) for job in jobs]
    missing = [line for line in dict.fromkeys(asked) if line not in _made]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        answers = list(pool.map(_ask, missing))
    failed = [f"{answer}\n  {line}" for line, answer in zip(missing, answers, strict=True)
              if isinstance(answer, str)]  # fmt: skip
    assert not failed, "\n".join(failed)
    for line, answer in zip(missing, answers, strict=True):
        assert isinstance(answer, Compiled)
        _made[line] = answer
    return [_made[line] for line in asked]


def table() -> Iterator[str]:
    """What was compiled, a line a kernel: the most that any of its variants needs of each card."""
    needs: dict[str, dict[int, list[Compiled]]] = {}
    for line, compiled in _made.items():
        job = json.loads(line)
        name = f"{job['module'].removeprefix('ftlab_kernels.')}.{job['name']}"
        needs.setdefault(name, {}).setdefault(job["capability"], []).append(compiled)
    yield "KiB shared / registers / bytes spilled, the most of each among a kernel's variants"
    yield f"{'kernel (variants)':48}" + "".join(f"{f'sm_{c}':>16}" for c in CAPABILITIES)
    for name, cards in sorted(needs.items()):
        cells = []
        for made in (cards.get(c, []) for c in CAPABILITIES):
            most = [max((getattr(one, what) for one in made), default=0)
                    for what in ("shared_bytes", "registers", "spills")]  # fmt: skip
            cells.append(f"{most[0] / 1024:.1f}/{most[1]}/{most[2]}" if made else "-")
        label = f"{name} ({max(map(len, cards.values()))})"
        yield f"{label:48}" + "".join(f"{cell:>16}" for cell in cells)


_idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()


def _ask(line: str) -> Compiled | str:
    """One job's answer from a child that is free, started where none is."""
    child = _start() if _idle.empty() else _idle.get()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
    said = child.stdout.readline()
    if not said:
        return f"the compiling process ended with {child.wait()}"
    _idle.put(child)
    answer = json.loads(said)
    return answer if isinstance(answer, str) else Compiled(**answer)


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    environment.setdefault("TRITON_CACHE_DIR", str(ROOT / ".pytest_cache" / "aot"))
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        environment.pop(name, None)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "kernels"), *filter(None, sys.path)])
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).resolve())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    atexit.register(child.kill)
    return child


def _child() -> None:
    """Compile the job of every line of standard input; answer each by a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answer: dict[str, int] | str
        try:
            answer = _compile(json.loads(line))
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"[-4000:]
        print(json.dumps(answer), file=answers, flush=True)


def _compile(job: dict[str, Any]) -> dict[str, int]:
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    _patch()
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
    made = triton.compile(source, target=target, options=job["options"]).metadata
    return {"shared_bytes": made.shared, "spills": made.spills, "registers": made.registers}


@functools.cache
def _patch() -> None:
    """triton's last stage throws away what the assembler says of registers and spills."""
    from triton.backends import backends

    backends["nvidia"].compiler.make_cubin = staticmethod(_assemble)


def _constant(value: Any) -> Any:
    """Element types travel by name: "tl.float32"."""
    import triton.language as tl

    if isinstance(value, str) and value.startswith("tl."):
        return getattr(tl, value.removeprefix("tl."))
    return value


def _assemble(ptx: str, metadata: dict[str, Any], options: Any, capability: int) -> bytes:
    """The machine code, by triton's own assembler; registers and spills go into the metadata."""
    import triton

    del capability  # the PTX names it, with its suffix
    target = re.search(r"^\s*\.target\s+([^\s,]+)", ptx, re.MULTILINE)
    assert target
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, "utf-8")
        done = subprocess.run(
            [str(Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"), "-v",
             *([] if options.enable_fp_fusion else ["--fmad=false"]),
             f"--gpu-name={target[1]}", str(source), "-o", str(cubin)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stores = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
        registers = re.findall(r"Used (\d+) registers", done.stderr)
        metadata["spills"] = sum(map(int, stores))
        metadata["registers"] = max(map(int, registers))
        return cubin.read_bytes()


if __name__ == "__main__":
    _child()
