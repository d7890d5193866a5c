"""What torch sees, told in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab_doctor.probes import torch


@pytest.mark.parametrize(
    ("devices", "said"), [(0, "torch 2.4.1, no GPU"), (2, "torch 2.4.1, 2 GPU")]
)
def test_what_is_seen(torch_sees: Callable[[int], None], devices: int, said: str) -> None:
    torch_sees(devices)
    assert torch.main() == {
        "said": said, "cuda": devices > 0, "devices": devices, "arch": ["sm_75"],
    }  # fmt: skip
