"""lora_products against plain formulas, target by target."""

from __future__ import annotations

import torch

from ftlab_kernels.lora_layout import columns
from ftlab_kernels.reference import lora_products as products
from ftlab_kernels.reference.dropout import dropout


def test_every_product_of_two_targets() -> None:
    layout = columns((3, 5), (0.0, 0.4), bias=True)
    seeds, rows = torch.tensor([1, 2]), (0, 7, 11)
    x, dy = torch.randn(6, 10).double(), torch.randn(6, 11).double()
    a = [torch.randn(r, 10).double() for r in (3, 5)]
    b = [torch.randn(n, r).double() for n, r in ((7, 3), (4, 5))]
    packed_a, packed_b = torch.zeros(64, 10).double(), torch.zeros(11, 64).double()
    u = torch.full((6, 64), torch.nan).double()
    v, dx = u.clone(), x.clone()
    for i in range(2):
        packed_a[layout.of(i)] = a[i]
        packed_b[rows[i] : rows[i + 1], layout.of(i)] = b[i]
    products.project(x, packed_a, layout, seeds, u)
    grad_b = products.up(dy, packed_b, u, rows, layout, v)
    grad_a = products.grad_a(v, x, layout, seeds)
    products.add_masked(dx, v, packed_a, layout, seeds)
    expected = x.clone()
    for i in range(2):
        dropped = dropout(x, layout.drops[i], i + 1)
        part = dy[:, rows[i] : rows[i + 1]]
        torch.testing.assert_close(u[:, layout.of(i)], dropped @ a[i].t())
        torch.testing.assert_close(v[:, layout.of(i)], part @ b[i])
        torch.testing.assert_close(grad_a[layout.of(i)], (part @ b[i]).t() @ dropped)
        here = grad_b[rows[i] : rows[i + 1], : layout.ranks[i]]
        torch.testing.assert_close(here, part.t() @ (dropped @ a[i].t()))
        expected += dropout(part @ b[i] @ a[i], layout.drops[i], i + 1)
    torch.testing.assert_close(dx, expected)
    assert (u[:, layout.ones] == 1).all()
    assert not u[:, layout.ones + 1 :].any()
    assert not v[:, layout.width :].any()
