"""SwiGLU reference: y = silu(gate) up, silu(g) = g sigmoid(g).

Shazeer 2020, "GLU Variants Improve Transformer".
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Elementwise over equal shapes [..., I]; keeps the dtype."""
    return F.silu(gate) * up
