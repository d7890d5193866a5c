"""Taking a layer's rows some at a time: which tiles there are, their bytes and what they cost.

Long contexts need it. A tile of 4,096 rows keeps a large GPU as busy as all rows would; smaller
ones are for small devices. The number of rows is part of a result's bits, so it follows from shapes
and the budget alone.
"""

from __future__ import annotations

from ftlab.estimate import DTYPE_BYTES, Work, linear_parameters
from ftlab.planning import buffers
from ftlab.planning.buffers import Shape
from ftlab.planning.schedule import Schedule

ROWS = (4096, 2048, 1024)
LONG = 8192  # tokens of a micro-batch from which on rows may be tiled
GAIN = 0.01  # of a step's time: tiles that save less are not taken
_LIBRARY = 256 << 20  # bytes that a library's attention gives at a time: `attention_library.ROOM`


def head_parts(kv_heads: int) -> int:
    """Parts that heads are taken in by the backward pass of attention: up to four, of whole groups.

    A part's gradients take the place of its q, k and v, so only those of one part need room.
    """
    return next(parts for parts in (4, 3, 2, 1) if kv_heads % parts == 0)


def choices(work: Work) -> tuple[int, ...]:
    """Tiles that a micro-batch may be taken in, the one that costs least first."""
    return ROWS if work.tiles and work.tokens >= LONG else ()


def held_bytes(work: Work, schedule: Schedule, items: dict[str, int]) -> list[int]:
    """What each layer keeps between the passes: its items, and attention's log-sum-exp."""
    lse = 4 * work.tokens * work.spec.num_heads
    return [
        sum(n for item, n in items.items() if layer.of(item) == "keep")
        + lse * (layer.attention != "recompute")
        for layer in schedule
    ]


def forward_bytes(work: Work, shape: Shape, schedule: Schedule, again: dict[str, int]) -> int:
    """Scratch of a forward pass besides operands: whole tensors, then a tile's.

    Args:
        again: item -> bytes where some layer does not keep it, else 0.
    """
    whole = again["qkv"] + again["attention"] + again["middle"] + buffers.ends(work, 1)
    whole += _rotated(work) + _tables(work)
    # While attention runs, or at the end, where the last stream lies beside a middle that stays.
    last = buffers.ends(work, int(schedule[-1].middle != "recompute"))
    whole += max(_attention(work, schedule), last + _number(work))
    if work.full or "embed_tokens" in str(work.adapter.modules_to_save):
        whole += buffers.ends(work, 1)
    return whole + _tile(work, shape, schedule, backward=False)


def made_again(schedule: Schedule, items: dict[str, int]) -> list[int]:
    """Bytes of q, k, v and attention that a backward pass has made again when a layer is done."""
    found: list[int] = []
    made: set[str] = set()
    for layer in reversed(schedule):
        made |= {item for item in ("qkv", "attention") if layer.of(item) == "recompute"}
        found.append(sum(items[item] for item in made))
    return found[::-1]


def backward_bytes(work: Work, shape: Shape, schedule: Schedule) -> int:
    """Scratch of a backward pass besides operands and what is made again whole."""
    b, rows = DTYPE_BYTES[work.compute_dtype], _number(work)
    parts = head_parts(work.spec.num_kv_heads)
    slopes = max(shape.inputs["o"] + shape.outputs["qkv"] // parts, work.spec.hidden_size)
    # The gradient of the stream lies where that of the hidden states was.
    whole = buffers.ends(work, 1) + work.tokens * slopes * b + _rotated(work) + _tables(work)
    whole += rows  # the final norm's statistic
    sums = buffers.parts_bytes(work, shape, min(work.tokens, schedule[0].tile))
    # In attention: q's and k's norms' statistics, then dO o of a part row by row, or its share of
    # these; or in a tile.
    part = max(rows * work.spec.num_heads, _head_norms(work)) // parts
    whole += max(_head_norms(work) + part, sums + _weight_part(work))
    if any(layer.attention == "recompute" for layer in schedule):
        whole += rows * work.spec.num_heads + _library(work)
    return whole + _tile(work, shape, schedule, backward=True)


def head_bytes(work: Work, logits: int) -> int:
    """The most around the head: the last stream, the rows it was given, their gradient and copies.

    Args:
        logits: `estimate.memory`'s term, which holds two of these.
    """
    return logits + buffers.ends(work, 2)


def seconds(work: Work, memory_speed: float) -> float:
    """What a layer costs more than with all rows at once: x A^T, y and normed inputs once more."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    query = spec.num_heads * spec.head_dim
    columns = 4 * spec.intermediate_size + 13 * spec.hidden_size + query
    return work.tokens * b * columns / memory_speed


def _tables(work: Work) -> int:
    """Cosines and sines of every rotation."""
    return work.tokens * len(work.spec.ropes) * work.spec.head_dim * DTYPE_BYTES[work.compute_dtype]


def _rotated(work: Work) -> int:
    """q and k as attention takes them, where they are normed."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    both = spec.num_heads + spec.num_kv_heads
    return work.tokens * both * spec.head_dim * b * spec.qk_norm


def _head_norms(work: Work) -> int:
    """Their statistics."""
    spec = work.spec
    return _number(work) * (spec.num_heads + spec.num_kv_heads) * spec.qk_norm


def _number(work: Work) -> int:
    """An fp32 number for each token."""
    return 4 * work.tokens


def _attention(work: Work, schedule: Schedule) -> int:
    """Statistics of the layer at work that do not stay, and what a library gives to be copied."""
    spec = work.spec
    lse = _number(work) * spec.num_heads * (schedule[-1].attention == "recompute")
    return lse + _head_norms(work) + _library(work)


def _library(work: Work) -> int:
    """What a library's attention gives at a time to be copied; one head at least."""
    b = DTYPE_BYTES[work.compute_dtype] * work.cuda
    head = work.tokens * work.spec.head_dim * b
    return max(head, min(head * work.spec.num_heads, _LIBRARY))


def _tile(work: Work, shape: Shape, schedule: Schedule, *, backward: bool) -> int:
    """Scratch of one tile's rows."""
    spec, pads = work.spec, shape.pads

    def some(item: str) -> bool:
        return any(layer.of(item) == "recompute" for layer in schedule)

    h = spec.hidden_size
    columns = 2 * h + max(pads["qkv"], pads["gate_up"])
    columns += shape.inputs["down"] + pads["down"] + shape.low
    columns += (shape.outputs["gate_up"] + pads["gate_up"]) * some("mlp")
    if spec.sandwich_norms:
        columns += h * (some("attention_out") + some("mlp_out"))
    if backward:
        apart = {pads["o"], pads["down"]}
        columns += sum(h + pad for pad in apart if pad or spec.sandwich_norms)
        columns += (shape.outputs["qkv"] + pads["qkv"]) * bool(pads["qkv"])
    rows = min(work.tokens, schedule[0].tile)
    return rows * columns * DTYPE_BYTES[work.compute_dtype]


def _weight_part(work: Work) -> int:
    """One tile's share of the gradient of a trained weight, in fp32, before it is added."""
    if not work.full or not linear_parameters(work.spec):
        return 0
    return 4 * max(out * into for out, into in work.spec.layer_linears().values())
