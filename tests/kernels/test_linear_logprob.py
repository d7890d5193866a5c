"""linear_logprob is log softmax at the label, in kernels as in the reference."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels.linear_logprob import linear_logprob


@pytest.mark.usefixtures("interpret")
def test_equals_log_softmax_with_gradient(device: str) -> None:
    hidden = torch.randn(9, 20, device=device, requires_grad=True)
    weight, labels = torch.randn(51, 20, device=device), torch.arange(9, device=device)
    labels[2] = -100
    ours = linear_logprob(hidden, weight, labels, softcap=3.0, logit_scale=0.5, chunk=4)
    logits = 3 * torch.tanh(hidden @ weight.t() * 0.5 / 3)
    theirs = torch.log_softmax(logits, -1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    theirs = theirs * (labels != -100)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(ours)
    (a,) = torch.autograd.grad(ours, hidden, upstream, retain_graph=True)
    (b,) = torch.autograd.grad(theirs, hidden, upstream)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
