"""Bytes of every tensor that the fused engine holds during a step, from shapes alone.

T tokens of a micro-batch, b bytes of the compute dtype. Names are those of `models.fused`: items
lie between the passes, scratch is shared by all layers of one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftlab.estimate import DTYPE_BYTES, Work, targets
from ftlab.planning.schedule import items_of

_UNIT, _PAD = 16, 64  # columns: each rank is rounded up to the one, a group's to the other
_GROUPS = {
    "qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj", "gate_up_proj"),
    "down": ("down_proj",),
}


KEPT_GRADIENTS = 1 << 28  # elements; fewer stay from step to step on a GPU
PINNED_PIECE, PINNED_LEAST = 64 << 20, 4 << 20  # bytes of host memory that are pinned together
PRODUCT_WORKSPACE = 32 << 20  # bytes that cuBLAS takes for repeatable products: :4096:8
_UP_FEATURES, _UP_PROGRAMS = 256, 264  # of `lora_up`'s tuning tables: what takes the most room


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns of one layer's tensors."""

    items: dict[str, int]  # item -> columns
    low: int  # x A^T of all groups together
    pads: dict[str, int]  # group -> columns that its buffers have beyond its own
    outputs: dict[str, int]
    inputs: dict[str, int]


def folds(work: Work) -> bool:
    """Whether adapters are folded into the products: LoRA over frozen weights."""
    return not work.full and not work.adapter.use_dora


def shape_of(work: Work) -> Shape:
    """Columns of every tensor of a layer."""
    spec = work.spec
    adapted, linears = targets(spec, work.adapter), spec.layer_linears()
    ranks, outputs, inputs = {}, {}, {}
    for group, names in _GROUPS.items():
        present = [name for name in names if name in linears]
        rank = -(-work.adapter.r // _UNIT) * _UNIT
        count = rank * sum(name in adapted for name in present)
        ranks[group] = -(-count // _PAD) * _PAD
        outputs[group] = sum(linears[name][0] for name in present)
        inputs[group] = linears[present[0]][1]
    pads = {group: rank if folds(work) else 0 for group, rank in ranks.items()}
    columns = {
        "input": spec.hidden_size,
        "qkv": outputs["qkv"],
        "attention": inputs["o"] + pads["o"],
        "attention_out": spec.hidden_size,
        "middle": spec.hidden_size,
        "mlp": outputs["gate_up"] + pads["gate_up"],
        "mlp_out": spec.hidden_size,
    }
    items = {item: columns[item] for item in items_of(spec.sandwich_norms)}
    return Shape(items, sum(ranks.values()), pads, outputs, inputs)


def item_bytes(work: Work, shape: Shape) -> dict[str, int]:
    """Item -> bytes of one layer."""
    b = DTYPE_BYTES[work.compute_dtype]
    return {item: work.tokens * columns * b for item, columns in shape.items.items()}


def pinned_pieces(count: int) -> list[int]:
    """Bytes of the pieces that a tensor of `count` bytes is pinned in.

    torch pins powers of two, so that one piece might take twice what it needs.
    """
    pieces = [PINNED_PIECE] * (count // PINNED_PIECE)
    rest, size = count % PINNED_PIECE, PINNED_PIECE // 2
    while rest:
        if rest >= size or size < PINNED_LEAST:
            pieces.append(min(rest, size) if size >= PINNED_LEAST else rest)
            rest -= pieces[-1]
        size //= 2
    return pieces


def pinned_bytes(count: int) -> int:
    """Host bytes that a tensor of `count` bytes takes."""
    return sum(1 << (piece - 1).bit_length() for piece in pinned_pieces(count))


def small_bytes(work: Work, shape: Shape) -> int:
    """What every layer keeps whatever the schedule: statistics and x A^T."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    norms = 2 + 2 * spec.sandwich_norms + spec.qk_norm * (spec.num_heads + spec.num_kv_heads)
    return work.tokens * (4 * (norms + spec.num_heads) + shape.low * b)


def operand_bytes(work: Work, shape: Shape) -> int:
    """The two matrices into which weights and adapters are expanded."""
    if not folds(work) or work.precision == work.compute_dtype:
        return _expanded(work)
    sizes = _operands(shape)
    pair = max(sizes["qkv"], sizes["gate_up"]) + max(sizes["o"], sizes["down"])
    return pair * DTYPE_BYTES[work.compute_dtype]


def margin_bytes(work: Work, shape: Shape) -> int:
    """What adapters add to 16-bit weights, which lie in matrices with room for them."""
    if not folds(work) or work.precision != work.compute_dtype:
        return 0
    bare = sum(shape.outputs[g] * shape.inputs[g] for g in _GROUPS)
    each = sum(_operands(shape).values()) - bare
    return work.spec.num_layers * each * DTYPE_BYTES[work.compute_dtype]


def _operands(shape: Shape) -> dict[str, int]:
    """Elements of each group's matrix with its adapters."""
    return {
        g: (shape.outputs[g] + shape.pads[g]) * (shape.inputs[g] + shape.pads[g]) for g in _GROUPS
    }


def _expanded(work: Work) -> int:
    """One weight in the compute dtype where it is held in another one."""
    held = "fp32" if work.full else work.precision
    largest = max(out * into for out, into in work.spec.layer_linears().values())
    return 0 if held == work.compute_dtype else largest * DTYPE_BYTES[work.compute_dtype]


def forward_scratch(work: Work, shape: Shape) -> int:
    """Scratch of a forward pass besides operands and items that are not kept."""
    h, b = work.spec.hidden_size, DTYPE_BYTES[work.compute_dtype]
    normed = h + max(shape.pads["qkv"], shape.pads["gate_up"])
    slopes = shape.inputs["o"] + shape.outputs["qkv"] + shape.pads["qkv"]
    product = max(shape.inputs["down"] + shape.pads["down"], slopes)
    return work.tokens * b * (normed + product + h)


def backward_scratch(work: Work, shape: Shape) -> int:
    """Scratch of a backward pass besides operands and items that are made again."""
    h, b = work.spec.hidden_size, DTYPE_BYTES[work.compute_dtype]
    stream = h + max(shape.pads["o"], shape.pads["down"])
    sandwich = 0
    if work.spec.sandwich_norms:
        sandwich = sum(h + pad for pad in {shape.pads["o"], shape.pads["down"]})
    rotated = shape.outputs["qkv"] if work.spec.qk_norm else 0
    attention = 4 * work.spec.num_heads // b  # dO o, row by row, in fp32
    more = stream + sandwich + rotated + attention
    parts = parts_bytes(work, shape, work.tokens)
    return forward_scratch(work, shape) + work.tokens * b * more + parts


def parts_bytes(work: Work, shape: Shape, rows: int) -> int:
    """fp32 parts of LoRA's largest gradient and of dy B of some rows, where kernels make them."""
    if not (folds(work) and work.cuda):
        return 0
    rank = -(-work.adapter.r // _UNIT) * _UNIT
    outputs = max(n for group, n in shape.outputs.items() if shape.pads[group])
    programs = -(-outputs // _UP_FEATURES)
    splits = max(1, _UP_PROGRAMS // programs)
    return 4 * rank * (splits * outputs + programs * rows)


def ends(work: Work, count: int) -> int:
    """So many tensors of the size of the hidden states, around the layers."""
    return count * work.tokens * work.spec.hidden_size * DTYPE_BYTES[work.compute_dtype]
