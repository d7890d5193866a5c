"""What several training processes exchange in a step: bytes, the room it takes, and how long.

Gradients are cut into pieces; each process adds up one share of every piece and sends the sum to
the others, so each sends 2 (R - 1) / R of the gradients. Standard library only.
"""

from __future__ import annotations

PIECE = 1 << 24  # gradients exchanged at once: 64 MiB of fp32
NCCL_BYTES = 400 << 20  # buffers and kernels of the communication library on a GPU
GPU_LINK = (5e9, 1.5e11)  # bytes a second of each GPU: PCIe 3 through the host, NVLink
CPU_LINK = (5e8, 4e9)  # processes of one host over its loopback
LATENCY = (3e-5, 1e-3)  # seconds of a round


def workspace_bytes(trained: int, ranks: int, *, cuda: bool) -> int:
    """Bytes on each device for exchanging the gradients of `trained` weights; 0 for one process."""
    if ranks == 1:
        return 0
    return 2 * 4 * min(trained + ranks, PIECE) + (NCCL_BYTES if cuda else 0)


def sent_bytes(trained: int, ranks: int) -> int:
    """Bytes that each process sends in a step."""
    return 2 * (ranks - 1) * 4 * trained // ranks


def seconds(trained: int, ranks: int, *, cuda: bool) -> tuple[float, float]:
    """Shortest and longest time of the exchange of one step."""
    if ranks == 1:
        return 0.0, 0.0
    slow, fast = GPU_LINK if cuda else CPU_LINK
    sent, rounds = sent_bytes(trained, ranks), 2 * -(-trained // PIECE) + 2
    return sent / fast + rounds * LATENCY[0], sent / slow + rounds * LATENCY[1]
