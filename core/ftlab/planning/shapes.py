"""The few lengths that micro-batches are padded to on a GPU, so that their shapes repeat."""

LEAST = 64  # rows of a tile of the products
_STEPS = 16  # lengths between two powers of two, and as many again: at most 1/16 is padding
_PARTS = 4  # counts of rows for the head, of each length


def padded_tokens(tokens: int) -> int:
    """The length that a micro-batch of so many tokens is padded to."""
    step = max(LEAST, (1 << (tokens - 1).bit_length()) // _STEPS)
    return -(-tokens // step) * step


def padded_rows(rows: int, tokens: int) -> int:
    """How many of `tokens` padded tokens the head computes where `rows` have a label."""
    step = max(LEAST, -(-tokens // (_PARTS * LEAST)) * LEAST)
    return min(max(1, -(-rows // step)) * step, tokens)
