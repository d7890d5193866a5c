"""The kernel for dk and dv compiled ahead of time for every card."""

from __future__ import annotations

import pytest
from aot import CAPABILITIES, SHARED_LIMIT, compile_many
from attention_jobs import jobs, spills_much

from ftlab_kernels.attention_backward_key import key_kernel


@pytest.mark.aot
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_fits_every_card(capability: int) -> None:
    listed = jobs("attention_backward_key", key_kernel, capability)
    for job, compiled in zip(listed, compile_many(listed), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[capability], job
        assert not spills_much(job, compiled.spills), (job, compiled)
