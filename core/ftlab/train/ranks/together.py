"""One of several ranks: what it says to the others and hears from them, through torch.distributed.

Gradients go by NCCL between GPUs, all else by Gloo over the loopback. The words between steps wait
as long as the leader needs: an evaluation of hours trips no time limit. A rank that dies is seen by
its closed connection or by torchrun, never by waiting.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from ftlab.train.memory import peak_bytes
from ftlab.train.ranks.alone import Alone, Diverged, RankLost
from ftlab.train.ranks.gradients import OrderedSum
from ftlab.train.ranks.room import Room

T = TypeVar("T")
PATIENCE = datetime.timedelta(days=30)  # of words and, on the CPU, of gradients
GPU_PATIENCE = datetime.timedelta(hours=1)  # ranks of one step reach its exchange together
LOOK_EVERY = 16  # steps between comparisons of the weights themselves


class Together(Alone):
    """One rank of a run. Use as a context manager around everything that exchanges."""

    def __init__(self, room: Room, rank: int, size: int, device: str) -> None:
        self.room, self.rank, self.size = room, rank, size
        self.device = torch.device(device)
        self._sum = OrderedSum(size)
        self._words: dist.ProcessGroup | None = None

    def __enter__(self) -> Together:
        cuda = self.device.type == "cuda"
        with self._reaching():
            dist.init_process_group(
                "nccl" if cuda else "gloo", timeout=GPU_PATIENCE if cuda else PATIENCE
            )
            self._words = dist.new_group(backend="gloo", timeout=PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Connections end with the process: taking them down waits now and then for partners that
        # went first. Where all is well, nobody goes before everyone has heard the last word.
        if kind is None:
            with contextlib.suppress(RuntimeError):
                dist.barrier(group=self._words)

    def first(self, make: Callable[[], T]) -> T:
        """The leader makes, then the others do."""
        made = make() if self.leads else None
        self._numbers([0])
        return made if self.leads else make()  # type: ignore[return-value]

    def share(self, make: Callable[[], Any]) -> Any:
        """A JSON value from the leader."""
        text = json.dumps(make()).encode() if self.leads else b""
        (size, *_), *_ = self._numbers([len(text)])
        content = torch.zeros(size, dtype=torch.uint8)
        if self.leads:
            content[:] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        with self._reaching():
            dist.broadcast(content, 0, group=self._words)
        return json.loads(bytes(content.tolist()))

    def agree(self, fault: str | None) -> str | None:
        """Any rank's fault is everyone's."""
        found = [rank for rank, (bad,) in enumerate(self._numbers([fault is not None])) if bad]
        if not found:
            return None
        return fault or f"rank {found[0]} could not"

    def reserve(self, parameters: Iterable[Parameter]) -> None:
        """Take the room of the exchange before anyone asks whether a step fits."""
        self._sum.reserve([parameter.detach() for parameter in parameters])

    def add(
        self, sums: list[Tensor], count: int, width: int, parameters: Iterable[Parameter]
    ) -> list[Tensor]:
        """Gradients in the order of the ranks; a rank without a micro-batch adds nothing."""
        slots = -(-count // self.size)
        mine = torch.zeros((slots, width), dtype=torch.float64, device=self.device)
        for slot, values in enumerate(sums):
            mine[slot] = values
        gathered = mine.new_empty(self.size * slots, width)
        with self._reaching():
            self._sum(_gradient(parameter) for parameter in parameters)
            dist.all_gather_into_tensor(gathered, mine)
        return list(
            gathered.view(self.size, slots, width).transpose(0, 1).reshape(-1, width)[:count]
        )

    def check(self, step: int, marks: tuple[int, float], parameters: Iterable[Parameter]) -> None:
        """Step, batch and gradients every time; every so often the bits of the weights."""
        batch, norm = marks
        look = fingerprint(parameters) if step % LOOK_EVERY == 0 else 0
        bits = struct.unpack("<q", struct.pack("<d", norm))[0]
        mine = [step, batch - (1 << 64) if batch >= 1 << 63 else batch, bits, look]
        everyone = self._numbers([*mine, peak_bytes(self.device)])
        self.peak = max(row[-1] for row in everyone)
        names = ("another step", "another batch", "other gradients", "other weights")
        for rank, row in enumerate(everyone):
            for name, ours, theirs in zip(names, everyone[0], row[:-1], strict=False):
                if ours != theirs:
                    raise Diverged(
                        f"after step {step} rank {rank} has {name} than rank 0: the processes no "
                        "longer train the same model. Resume from the last checkpoint; if it "
                        "happens again, a GPU or its memory is faulty (`ftdoctor`)"
                    )

    def say(self, word: int) -> None:
        """Send a word to all."""
        self._word(word)

    def hear(self) -> int:
        """Wait for the leader's word."""
        return self._word(0)

    def _word(self, word: int) -> int:
        said = torch.tensor([word], dtype=torch.int64)
        with self._reaching():
            dist.broadcast(said, 0, group=self._words)
        return int(said)

    def _numbers(self, mine: list[int]) -> list[list[int]]:
        """Every rank's numbers."""
        gathered = torch.empty(self.size * len(mine), dtype=torch.int64)
        with self._reaching():
            dist.all_gather_into_tensor(
                gathered, torch.tensor(mine, dtype=torch.int64), group=self._words
            )
        values: list[list[int]] = gathered.view(self.size, -1).tolist()
        return values

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # Gloo and NCCL raise no finer kind
            first = (str(error).splitlines() or ["no reason given"])[0]
            raise RankLost(f"rank {self.rank} lost the others: {first}") from error


def fingerprint(parameters: Iterable[Parameter]) -> int:
    """A number that changes with any bit of any weight; the same in any order of adding."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [
        parameter.detach().reshape(-1).view(kinds[parameter.element_size()]).sum(dtype=torch.int64)
        * (2 * index + 1)
        for index, parameter in enumerate(parameters)
    ]
    return int(torch.stack(sums).sum()) if sums else 0


def _gradient(parameter: Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
