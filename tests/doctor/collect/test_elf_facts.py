"""Compiled files of a made-up site-packages: damaged ones, origins, and the versions they ask for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ftlab_doctor.collect import elf_facts


def test_the_highest_version_of_each_kind_counts() -> None:
    asked = ["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9", "GLIBCXX_3.4.30", "CXXABI_1.3", "GLIBC_PRIVATE", "libc.so.6"]  # fmt: skip
    assert elf_facts.highest(asked) == {"CXXABI": "1.3", "GLIBC": "2.34", "GLIBCXX": "3.4.30"}


def test_origin_is_where_the_file_lies() -> None:
    assert elf_facts._origin("$ORIGIN/../../nvidia/x/lib", "/s/torch/lib") == "/s/nvidia/x/lib"
    assert elf_facts._origin("${ORIGIN}", "/s/torch/lib") == "/s/torch/lib"


def test_a_damaged_file_is_a_fact(tmp_path: Path) -> None:
    file = tmp_path / "lib.so"
    for content in (b"", b"version https://git-lfs", b"\x7fELF" + bytes(60)):
        file.write_bytes(content)
        assert set(elf_facts.describe(str(file))) == {"broken"}
    assert "needed" in elf_facts.describe(sys.executable)


def test_files_of_torch_and_of_extensions_are_looked_at(tmp_path: Path) -> None:
    for name in ("torch/lib/libc10.so", "nvidia/cudnn/lib/libcudnn.so.9", "vllm/_C.abi3.so", "flash_attn_2_cuda.cpython-311.so", "other/_C.so"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no ELF")
    facts: dict[str, Any] = {"packages": [{"name": "torch", "version": "2", "location": str(tmp_path)}], "libraries": {"dirs": {}}}  # fmt: skip
    elf_facts.collect(facts)
    looked = {path.removeprefix(f"{tmp_path}/") for path in facts["elf"]}
    assert looked == {"torch/lib/libc10.so", "nvidia/cudnn/lib/libcudnn.so.9", "vllm/_C.abi3.so", "flash_attn_2_cuda.cpython-311.so"}  # fmt: skip
