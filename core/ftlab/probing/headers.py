"""What safetensors files hold, from their headers alone: dtypes, sizes, truncation. No weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftlab.atomic import clear_errors
from ftlab.errors import EnvironmentUnfit

LONGEST_HEADER = 100 * 1000 * 1000  # bytes, the limit of the format
NAMES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "U8": "uint8", "I8": "int8"}


def read_header(path: Path) -> dict[str, Any]:
    """The header of one file: tensor name -> {dtype, shape, data_offsets}.

    Raises:
        EnvironmentUnfit: the file is no safetensors file, or is shorter than its header says.
    """
    with clear_errors(path), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size):
            raise _damaged(path, "its header does not fit in the file")
        text = file.read(length)
    try:
        header = json.loads(text)
        end = max((int(item["data_offsets"][1]) for item in _tensors(header).values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path, "its header is not readable") from None
    if 8 + length + end > size:
        raise _damaged(path, f"it has {size:,} bytes, its header promises {8 + length + end:,}")
    return _tensors(header)


def summary(headers: Iterable[dict[str, Any]]) -> tuple[str, int]:
    """(dtype that most bytes have, all bytes) over the headers of a checkpoint."""
    sizes: Counter[str] = Counter()
    for header in headers:
        for tensor in header.values():
            begin, end = tensor["data_offsets"]
            sizes[str(tensor["dtype"])] += int(end) - int(begin)
    if not sizes:
        return "", 0
    most = max(sizes, key=lambda name: (sizes[name], name))
    return NAMES.get(most, most.lower()), sum(sizes.values())


def _tensors(header: Any) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "__metadata__"}


def _damaged(path: Path, reason: str) -> EnvironmentUnfit:
    return EnvironmentUnfit(f"{path} is damaged: {reason}; fetch it again")
