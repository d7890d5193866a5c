"""ELF files: a library that the compiler makes here, a real one, and damaged ones."""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from ftlab_doctor import elf
from ftlab_doctor.collect import elf_facts

SOURCE = "extern int elsewhere(int); extern double sqrt(double);\nint ours(int x) { return elsewhere(x) + (int)sqrt(x); }\n"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text(SOURCE)
    made = folder / "liba.so.1.2"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", made, folder / "a.c", "-lm", "-Wl,-soname,liba.so.1", "-Wl,--hash-style=gnu",
         "-Wl,--no-as-needed", "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/../cuda:/opt/lib"],
        check=True,
    )  # fmt: skip
    return made


def test_what_a_library_says_of_itself(library: Path) -> None:
    with elf.Elf(str(library)) as read:
        assert read.strings(elf.SONAME) == ["liba.so.1"]
        assert "libc.so.6" in read.strings(elf.NEEDED)
        assert {"elsewhere", "sqrt"} <= set(read.undefined())
        assert (read.defines("ours"), read.defines("elsewhere"), read.defines("nobody")) == (True, False, False)  # fmt: skip
        assert any(v.startswith("GLIBC_") for names in read.needed_versions().values() for v in names)  # fmt: skip
    facts = elf_facts.describe(str(library))
    assert facts["rpath"] == [str(library.parent.parent / "cuda"), "/opt/lib"]
    assert facts["soname"] == "liba.so.1"
    assert facts["versions"]["GLIBC"]


def test_every_symbol_that_the_loader_finds_is_found_here() -> None:
    """The C library itself: its hash table is walked as the loader walks it."""
    path = Path(str(sysconfig.get_config_var("LIBDIR") or "/usr/lib"))
    candidates = [*Path("/lib").glob("*-linux-gnu/libc.so.6"), Path("/lib64/libc.so.6"), path / "libc.so.6"]  # fmt: skip
    real = next((c for c in candidates if c.exists()), None)
    if real is None:
        pytest.skip("no glibc here")
    library = ctypes.CDLL(str(real))
    with elf.Elf(str(real)) as read:
        for name in ("printf", "malloc", "qsort", "getaddrinfo", "no_such_function_here"):
            assert read.defines(name) == hasattr(library, name), name


@pytest.mark.parametrize("content", [b"", b"text", b"\x7fELF\x01\x01" + b"\0" * 100, b"\x7fELF\x02\x01" + b"\xff" * 200])  # fmt: skip
def test_what_is_no_library(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(content)
    with pytest.raises(elf.NotElf):
        elf.Elf(str(tmp_path / "x.so"))
    assert elf_facts.describe(str(tmp_path / "x.so")) == {"broken": "NotElf"}


def test_a_truncated_library_is_damaged_or_readable_never_a_crash(library: Path, tmp_path: Path) -> None:  # fmt: skip
    content = library.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        (tmp_path / "x.so").write_bytes(content[:length])
        facts = elf_facts.describe(str(tmp_path / "x.so"))
        assert facts.get("broken") or "needed" in facts


def test_a_library_with_wrong_bytes_is_never_a_crash(library: Path, tmp_path: Path) -> None:
    """Headers and tables with random bytes in them: an answer or NotElf, and soon."""
    rng, content = random.Random(3), library.read_bytes()
    for _ in range(400):
        wrong = bytearray(content)
        for _ in range(rng.choice((1, 4, 40))):
            wrong[rng.randrange(min(len(wrong), 4096))] = rng.randrange(256)
        (tmp_path / "x.so").write_bytes(wrong)
        facts = elf_facts.describe(str(tmp_path / "x.so"))
        assert facts.get("broken") or "needed" in facts
        elf_facts._missing(str(tmp_path / "x.so"), [str(library)], re.compile(""))
        elf_facts._missing(str(library), [str(tmp_path / "x.so")], re.compile(""))


def test_the_highest_version_of_each_kind() -> None:
    names = [
        "GLIBC_2.4",
        "GLIBC_2.34",
        "GLIBCXX_3.4.9",
        "GLIBCXX_3.4.30",
        "OTHER_1",
        "GLIBC_PRIVATE",
    ]
    assert elf_facts.highest(names) == {"GLIBC": "2.34", "GLIBCXX": "3.4.30"}
