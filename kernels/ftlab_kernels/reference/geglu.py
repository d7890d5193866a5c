"""GeGLU reference: y = gelu(gate) up.

    exact:  gelu(g) = g Phi(g) = g (1 + erf(g / sqrt 2)) / 2
    tanh:   gelu(g) = g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2

Hendrycks and Gimpel 2016, "Gaussian Error Linear Units"; Shazeer 2020.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def geglu(gate: Tensor, up: Tensor, approximate: Literal["none", "tanh"] = "tanh") -> Tensor:
    """Elementwise over equal shapes [..., I]; `approximate` as in torch's gelu. Keeps the dtype."""
    return F.gelu(gate, approximate=approximate) * up
