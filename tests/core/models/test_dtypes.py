"""dtypes by name."""

from __future__ import annotations

import pytest
import torch

from ftlab.models.dtypes import DTYPES, as_dtype


def test_names_and_dtypes() -> None:
    assert {name: as_dtype(name) for name in DTYPES} == DTYPES
    assert as_dtype(torch.float16) is torch.float16


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'fp8' is unknown, allowed are fp32, bf16, fp16"):
        as_dtype("fp8")
