"""ELF files read as the dynamic loader reads them: needs, search paths, versions, symbols, CUDA code.

Only the touched pages of a file are read, so that a library of a gigabyte costs a few kilobytes.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from types import TracebackType

NEEDED, HASH, STRTAB, SYMTAB, SONAME, RPATH, RUNPATH = 1, 4, 5, 6, 14, 15, 29
GNU_HASH, VERNEED, VERNEEDNUM = 0x6FFFFEF5, 0x6FFFFFFE, 0x6FFFFFFF
FATBIN = 0xBA55ED50
CUBIN, PTX = 2, 1


class NotElf(ValueError):
    """No 64-bit little-endian ELF file, or a damaged one."""


class Elf:
    """One shared library."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < 64:
                raise NotElf(path)
            self.data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.data.madvise(mmap.MADV_RANDOM)
        if self.data[:6] != b"\x7fELF\x02\x01":
            self.data.close()
            raise NotElf(path)
        try:
            self._dynamic()
            self.gnu = self._gnu()
        except (struct.error, IndexError) as error:
            self.data.close()
            raise NotElf(f"{path}: damaged: {error}") from error

    def __enter__(self) -> Elf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.data.close()

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(form, self.data, offset)

    def _dynamic(self) -> None:
        start, size, count = *self._unpack("<Q", 32), *self._unpack("<HH", 54)
        self.segments, dynamic = [], None
        for i in range(count):
            kind, _, offset, address, _, length = self._unpack("<IIQQQQ", start + i * size)
            if kind == 1:
                self.segments.append((address, address + length, offset))
            elif kind == 2:
                dynamic = (offset, length)
        self.tags: dict[int, list[int]] = {}
        if dynamic:
            for position in range(dynamic[0], dynamic[0] + dynamic[1], 16):
                tag, value = self._unpack("<QQ", position)
                if tag == 0:
                    break
                self.tags.setdefault(tag, []).append(value)

    def _at(self, address: int) -> int:
        for low, high, offset in self.segments:
            if low <= address < high:
                return offset + address - low
        raise IndexError(hex(address))

    def _table(self, tag: int) -> int | None:
        return self._at(self.tags[tag][0]) if tag in self.tags else None

    def _string(self, index: int) -> str:
        start = self._at(self.tags[STRTAB][0]) + index
        return self.data[start : self.data.find(b"\0", start)].decode("utf-8", "replace")

    def strings(self, tag: int) -> list[str]:
        """The values of NEEDED, SONAME, RPATH or RUNPATH."""
        return [self._string(value) for value in self.tags.get(tag, [])]

    def needed_versions(self) -> dict[str, list[str]]:
        """For each library, the symbol versions that it must define (GLIBC_2.34 ...)."""
        found: dict[str, list[str]] = {}
        position = self._table(VERNEED)
        for _ in range(self.tags.get(VERNEEDNUM, [0])[0] if position is not None else 0):
            assert position is not None
            _, count, file, first, following = self._unpack("<HHIII", position)
            inner, versions = position + first, []
            for _ in range(count):
                _, _, _, name, step = self._unpack("<IHHII", inner)
                versions.append(self._string(name))
                inner += step
            found.setdefault(self._string(file), []).extend(versions)
            position += following
        return found

    def undefined(self) -> Iterator[str]:
        """Names that other libraries must define; weak ones are left out."""
        table, hashes = self._table(SYMTAB), self._table(GNU_HASH)
        if table is None or hashes is None:
            return
        first_defined = self._unpack("<I", hashes + 4)[0]
        for i in range(1, first_defined):
            name, info, _, section = self._unpack("<IBBH", table + 24 * i)
            if section == 0 and info >> 4 == 1:
                yield self._string(name)

    def _gnu(self) -> tuple[int, ...] | None:
        """Where the GNU hash table and the symbols lie, and the table's header."""
        base, table = self._table(GNU_HASH), self._table(SYMTAB)
        if base is None or table is None:
            return None
        return base, table, *self._unpack("<IIII", base)

    def defines(self, name: str, code: int | None = None) -> bool:
        """Whether the library defines a symbol, by its GNU hash table; `code` is gnu_hash(name)."""
        if self.gnu is None:
            return True  # an old hash table: not read, so nothing is claimed
        base, table, buckets, offset, bloom, shift = self.gnu
        if not buckets:
            return False
        code = gnu_hash(name) if code is None else code
        if bloom:  # two bits say "certainly not" for nearly all that is not there
            word = self._unpack("<Q", base + 16 + 8 * (code // 64 % bloom))[0]
            if not word >> code % 64 & word >> (code >> shift) % 64 & 1:
                return False
        bucket_at = base + 16 + bloom * 8
        index = self._unpack("<I", bucket_at + 4 * (code % buckets))[0]
        if index < offset:
            return False
        chain = bucket_at + 4 * buckets
        while True:
            value = self._unpack("<I", chain + 4 * (index - offset))[0]
            if value | 1 == code | 1:
                at, _, _, section = self._unpack("<IBBH", table + 24 * index)
                if section and self._string(at) == name:
                    return True
            if value & 1:
                return False
            index += 1

    def section(self, wanted: str) -> tuple[int, int] | None:
        """Offset and size of a section by name."""
        start, size, count, names = *self._unpack("<Q", 40), *self._unpack("<HHH", 58)
        if not start or not count:
            return None
        table = self._unpack("<Q", start + names * size + 24)[0]
        for i in range(count):
            name, _, _, _, offset, length = self._unpack("<IIQQQQ", start + i * size)
            at = table + name
            if self.data[at : at + len(wanted) + 1] == wanted.encode() + b"\0":
                return offset, length
        return None

    def cuda_code(self, limit: int = 400) -> list[str]:
        """Architectures of the CUDA code inside: "sm_80" machine code, "compute_80" PTX."""
        place = self.section(".nv_fatbin")
        found: set[str] = set()
        if place is None:
            return []
        with open(self.path, "rb", buffering=0) as file:
            position, end = place[0], place[0] + place[1]
            while limit and position < end:
                limit -= 1
                magic, _, header, size = struct.unpack(
                    "<IHHQ", os.pread(file.fileno(), 16, position)
                )
                if magic != FATBIN:
                    break
                stop = position + header + size
                found.update(_fatbin(file.fileno(), position + header, stop))
                position = (stop + 7) & ~7
        return sorted(found, key=lambda name: (int(name.split("_")[1]), name))


def gnu_hash(name: str) -> int:
    """The hash that DT_GNU_HASH tables use."""
    code = 5381
    for byte in name.encode():
        code = code * 33 + byte & 0xFFFFFFFF
    return code


def _fatbin(descriptor: int, position: int, stop: int) -> Iterator[str]:
    """The pieces of one container: kind, sizes, and at byte 28 the architecture."""
    while position + 64 <= stop:
        kind, _, header, payload = struct.unpack("<HHIQ", os.pread(descriptor, 16, position))
        if kind not in (CUBIN, PTX) or not header:
            return
        number = struct.unpack("<I", os.pread(descriptor, 4, position + 28))[0]
        yield f"{'sm' if kind == CUBIN else 'compute'}_{number}"
        position += header + payload
