"""StepRng: randomness of one micro-batch as a function of (seed, step, micro-batch, site)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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

    def keys(self, sites: int, device: torch.device) -> Tensor:
        """The keys of the first `sites` call sites, int64 on the device; nothing waits."""
        made = torch.tensor([self.key(site) for site in range(sites)])
        if device.type == "cuda":
            made = made.pin_memory()
        return made.to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """Keys that lie on the device, where a captured graph finds those of the present step."""

    values: Tensor  # int64, one a call site

    def key(self, site: int) -> int:
        """The host does not know them."""
        raise RuntimeError(f"the dropout key of site {site} is on the device alone")

    def keys(self, sites: int, device: torch.device) -> Tensor:
        """All of them."""
        return self.values
