"""How many tokens' logits exist at one time. Standard library alone: plans read it without torch.

The chunk is part of a result's bits, so it follows from shapes and never from free memory.
"""

REFERENCE_TOKENS = 256  # fp32 logits and slopes beside each other, on the CPU
BUFFER_BYTES = 384 << 20  # of the kernel's logits: 1,536 tokens at V = 128,256


def chunk_tokens(V: int, itemsize: int) -> int:
    """Tokens of the kernel's chunk: at most 384 MiB of logits, a multiple of 128."""
    return max(128, BUFFER_BYTES // (V * itemsize) // 128 * 128)


def buffer_shape(T: int, V: int, itemsize: int, chunk: int | None = None) -> tuple[int, int]:
    """Rows and row stride of the kernel's logits; rows are aligned for matrix products."""
    return min(T, chunk or chunk_tokens(V, itemsize)), -(-V // 64) * 64
