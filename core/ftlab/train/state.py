"""What training has learned: trained tensors, optimizer, loss scale. All that a resume needs.

    adapter/             PEFT's format, when an adapter is trained
    trained.safetensors  fp32 masters, when every weight is trained
    optimizer.safetensors
    state.json           step, token totals, loss scale, identity of plan and data, versions

Batches come from the index, the learning rate from the step and randomness from the position, so
nothing else is kept. safetensors and JSON only: nothing here can run code when it is read.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim.optimizer import Optimizer

from ftlab import atomic
from ftlab.errors import ConfigError, FtlabError
from ftlab.lora.inject import load_adapter, save_adapter
from ftlab.train.checkpoint import Checkpoint
from ftlab.train.numerics import LossScaler
from ftlab.train.optimizers import load_state_tensors, state_tensors

VERSION = 1


@dataclass(slots=True)
class Totals:
    """Tokens of all finished steps."""

    tokens: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TrainState:
    """The live state of one training process, and its way to a checkpoint and back.

    Args:
        model: the Hugging Face module, or the PEFT module around it.
        parameters: what is trained, by name, in the one fixed order.
        identity: hashes that a checkpoint must share with the run, such as plan and data.
    """

    model: Module
    parameters: Mapping[str, Parameter]
    optimizer: Optimizer
    scaler: LossScaler | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter is trained, rather than every weight."""
        return hasattr(self.model, "peft_config")

    def nbytes(self) -> int:
        """Bytes that `hash` reads once every state exists: fp32 weights and two moments each."""
        return sum(12 * parameter.numel() for parameter in self.parameters.values())

    def hash(self) -> bytes:
        """First 16 bytes of the sha256 of every trained tensor and all optimizer state."""
        digest = hashlib.sha256()
        tensors = dict(self.parameters) | state_tensors(self.optimizer, self.parameters)
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(raw_bytes(tensor))
        return digest.digest()[:16]

    def write(self, folder: Path, step: int) -> None:
        """Fill the empty `folder` with everything that `restore` needs."""
        if self.is_adapter:
            save_adapter(self.model, folder / "adapter")
        else:
            _save(self.parameters, folder / "trained.safetensors")
        optimizer = state_tensors(self.optimizer, self.parameters)
        _save(optimizer, folder / "optimizer.safetensors")
        atomic.write_json(
            folder / "state.json",
            {
                "version": VERSION,
                "step": step,
                "state_hash": self.hash().hex(),
                "totals": asdict(self.totals),
                "loss_scale": self.scaler.state() if self.scaler else None,
                "identity": dict(self.identity),
                "versions": {"torch": torch.__version__, "python": platform.python_version()},
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Become what `write` saw, bit for bit.

        Raises:
            ConfigError: the checkpoint belongs to another plan or other data.
            FtlabError: what was read is not what was saved.
        """
        state = atomic.read_json(checkpoint.path / "state.json")
        _refuse_other_identity(checkpoint, state["identity"], self.identity)
        with torch.no_grad():
            self._load_parameters(checkpoint.path)
        tensors = load_file(checkpoint.path / "optimizer.safetensors")
        load_state_tensors(self.optimizer, self.parameters, tensors)
        if self.scaler and state["loss_scale"]:
            self.scaler.load(state["loss_scale"])
        self.totals.tokens = state["totals"]["tokens"]
        self.totals.trained_tokens = state["totals"]["trained_tokens"]
        if self.hash().hex() != state["state_hash"]:
            raise FtlabError(
                f"{checkpoint.path} gives another state than was saved (hash {self.hash().hex()}, "
                f"saved {state['state_hash']}); resume with the versions it was written with: "
                f"{state['versions']}"
            )

    def _load_parameters(self, folder: Path) -> None:
        if self.is_adapter:
            load_adapter(self.model, folder / "adapter")
            return
        tensors = load_file(folder / "trained.safetensors")
        if set(tensors) != set(self.parameters):
            raise FtlabError(f"{folder} holds other parameters than this model has")
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[name])


def _refuse_other_identity(
    checkpoint: Checkpoint, saved: Mapping[str, Any], mine: Mapping[str, str]
) -> None:
    for name, value in mine.items():
        if saved.get(name) != value:
            raise ConfigError(
                f"cannot resume {checkpoint.path.parent.parent.name} from {checkpoint.path.name}: "
                f"its {name} is {str(saved.get(name))[:12]}, this run's is {value[:12]}. A resumed "
                f"run must repeat the plan it was begun with; start a new run for another one"
            )


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata={"format": "pt"})


def raw_bytes(tensor: Tensor) -> Any:
    """The raw bytes of `tensor`, whatever its dtype, without a copy where it is on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
