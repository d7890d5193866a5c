"""Ask the CUDA driver library, by ctypes, in a process of its own; prints JSON.

Runs alone (`python -I -S cuda_child.py`). cuInit makes no context: nothing is left on the card.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def main() -> dict[str, Any]:
    """`init` is what cuInit returned, `missing` the loader's words if libcuda cannot be loaded."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"missing": str(error)}
    facts: dict[str, Any] = {"path": loaded("libcuda.so")}
    number = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:
        facts["version"] = number.value
    facts["init"] = cuda.cuInit(0)
    if facts["init"] != 0:
        return facts
    cuda.cuDeviceGetCount(ctypes.byref(number))
    facts["devices"] = [device(cuda, i) for i in range(number.value)]
    return facts


def device(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    """Name, compute capability and memory of one visible device."""
    handle, value, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(128)
    rc = cuda.cuDeviceGet(ctypes.byref(handle), index)
    if rc != 0:
        return {"index": index, "rc": rc}
    cuda.cuDeviceGetName(name, 128, handle)
    cc = []
    for attribute in (MAJOR, MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        cc.append(value.value)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    return {"index": index, "rc": 0, "name": name.value.decode(), "cc": cc, "total": size.value}


def loaded(part: str) -> str:
    """The file that the loader took."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next((line.split(maxsplit=5)[5].strip() for line in maps if part in line), "")


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
