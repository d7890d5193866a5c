"""linear_logprob is log softmax at the label."""

from __future__ import annotations

import torch

from ftlab_kernels.reference.linear_logprob import linear_logprob


def test_equals_log_softmax_with_gradients() -> None:
    hidden = torch.randn(30, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(41, 16, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(41, (30,))
    labels[::4] = -100
    ours = linear_logprob(hidden, weight, labels, softcap=3.0, logit_scale=0.5, chunk=4)
    logits = 3 * torch.tanh(hidden @ weight.t() * 0.5 / 3)
    picked = torch.log_softmax(logits, -1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    theirs = torch.where(labels == -100, 0.0, picked)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, weight), upstream),
        torch.autograd.grad(theirs, (hidden, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
