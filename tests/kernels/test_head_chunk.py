"""head_chunk: from shapes alone, within its bytes, and read without torch."""

from __future__ import annotations

import subprocess
import sys

from ftlab_kernels.head_chunk import BUFFER_BYTES, buffer_shape, chunk_tokens


def test_the_chunk_fills_its_bytes_and_no_more() -> None:
    assert chunk_tokens(128_256, 2) == 1536
    assert chunk_tokens(49_152, 2) == 4096
    for vocabulary in (32_000, 49_152, 151_936, 262_144):
        for itemsize in (2, 4):
            tokens = chunk_tokens(vocabulary, itemsize)
            assert tokens % 128 == 0
            bytes_held = tokens * vocabulary * itemsize
            assert bytes_held <= BUFFER_BYTES < bytes_held + 128 * vocabulary * itemsize
    assert chunk_tokens(1 << 30, 4) == 128


def test_the_buffer_is_no_longer_than_the_batch() -> None:
    assert buffer_shape(5000, 128_256, 2) == (1536, 128_256)
    assert buffer_shape(100, 5003, 2) == (100, 5056)
    assert buffer_shape(100, 1000, 2, chunk=7) == (7, 1024)


def test_it_loads_no_torch() -> None:
    code = "import ftlab_kernels.head_chunk, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
