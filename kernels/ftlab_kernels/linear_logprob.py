"""Linear + log-probability of the label: log softmax(hidden W^T)[label], without [T, V] in memory.

    logprob = z'[label] - lse(z') = -loss;  dh and dW: those of `linear_cross_entropy`, negated

The negative of `linear_cross_entropy` without smoothing; one mechanism serves SFT and DPO, and its
launchers serve both.
"""

from __future__ import annotations

from torch import Tensor

from ftlab_kernels.linear_cross_entropy import linear_cross_entropy


def linear_logprob(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    chunk: int | None = None,
    compact: bool = True,
) -> Tensor:
    """fp32 [T]: log-probability of each label, 0 where the label is -100.

    Arguments as in `linear_cross_entropy`.
    """
    return -linear_cross_entropy(
        hidden, weight, labels, softcap=softcap, logit_scale=logit_scale, chunk=chunk,
        compact=compact,
    )  # fmt: skip
