"""StepRng: randomness of one micro-batch as a function of (seed, step, micro-batch, site)."""

from __future__ import annotations

from dataclasses import dataclass

from ftlab_kernels.reference.philox import mix


@dataclass(frozen=True, slots=True)
class StepRng:
    """Where the run stands; there is no state, so nothing of it is ever saved."""

    seed: int  # of the run
    step: int  # optimizer step, from 0
    micro: int  # micro-batch within the step, from 0

    def key(self, site: int) -> int:
        """64-bit Philox key of one call site (a projection of a layer)."""
        return mix(self.seed, self.step, self.micro, site)
