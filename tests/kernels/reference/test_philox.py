"""Philox against the published vectors and, bit for bit, against triton's own generator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ftlab_kernels.reference.philox import mix, philox, to_uniform, uniform

TRITON = """
import torch, triton, triton.language as tl

@triton.jit
def draw(out, seed, start, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.rand(seed, start + offsets))

out = torch.empty(256)
for seed, start in ((0, 0), (3407, 5), (0x7123456789ABCDEF, 4096)):
    draw[(1,)](out, seed, start, BLOCK=256)
    print(" ".join(str(int(bits)) for bits in out.view(torch.int32)))
"""


def test_published_vector() -> None:
    # Random123's kat_vectors: philox4x32 10, counter and key all zero.
    words = philox(0, torch.tensor([0]))
    assert [int(word) for word in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_words_fold_as_tritons_do() -> None:
    words = torch.tensor([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    expected = torch.tensor([0, 1, 0x7FFFFFFF, 0x7FFFFFFF, 0]).float() * 4.6566127342e-10
    assert torch.equal(to_uniform(words), expected)
    assert float(expected.max()) < 1


def test_bit_equal_to_triton() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"import tempfile\n{_as_file()}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    drawn = [[int(bits) for bits in line.split()] for line in done.stdout.splitlines()]
    assert len(drawn) == 3
    for (seed, start), bits in zip(
        ((0, 0), (3407, 5), (0x7123456789ABCDEF, 4096)), drawn, strict=True
    ):
        ours = uniform(seed, 256, start=start).view(torch.int32).tolist()
        assert ours == bits


def _as_file() -> str:
    """triton reads a kernel's source from a file, so the child writes and runs one."""
    return (
        "import pathlib, runpy\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    path = pathlib.Path(folder, 'draw.py')\n"
        f"    path.write_text({TRITON!r})\n"
        "    runpy.run_path(str(path))\n"
    )


def test_chunks_and_starts_do_not_show() -> None:
    whole = uniform(5, 70_000)
    assert torch.equal(whole[40_000:], uniform(5, 30_000, start=40_000))
    assert not torch.equal(whole, uniform(6, 70_000))


def test_moments_are_uniform() -> None:
    drawn = uniform(1, 100_000).double()
    assert abs(float(drawn.mean()) - 0.5) < 0.005
    assert abs(float(drawn.var()) - 1 / 12) < 0.002


def test_counter_beyond_32_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        uniform(0, 2, start=2**32 - 1)


def test_mix_depends_on_every_part_and_its_place() -> None:
    seeds = {mix(), mix(0), mix(0, 0), mix(1, 2), mix(2, 1), mix(1, 2, 0), mix(2**32), mix(-1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(3407, 0, 0, 0) == mix(3407, 0, 0, 0)
