"""Memory by term and time of a run before it starts, from shapes alone. Formulas, no measuring.

All sizes in bytes. T tokens of a micro-batch, H hidden, I inner, Q = heads x head_dim, K =
key-value heads x head_dim, V vocabulary, L layers, b bytes of the compute dtype. The reference
engine is padding-free and takes the head in chunks: nothing of size T x T or T x V exists.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftlab.models.spec import DecoderSpec
from ftlab.planning import exchange
from ftlab.schema import AdapterSection
from ftlab_kernels.head_chunk import REFERENCE_TOKENS, buffer_shape

GIB = 1 << 30
MIB = 1 << 20
DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
QUERY_BLOCK = 256  # queries whose scores exist at once: ftlab_kernels.reference.block_attention
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits, a byte per 64, an fp32 per 64 x 256
ADAMW_BYTES = {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256)}  # two moments per trained weight
CUDA_CONTEXT = 600 * MIB  # driver context, cuBLAS and its workspace
CPU_CONTEXT = 700 * MIB  # the interpreter with torch, transformers and PEFT loaded
CUDA_FRAGMENTATION = 0.06  # share of the allocator's blocks that cannot be reused
# The C library's heap keeps what lies below a block still in use: 0.75 of the moving tensors, seen
# on SmolLM2 at 960 tokens (3.8 GiB resident, 2.8 without).
CPU_FRAGMENTATION = 0.75


@dataclass(frozen=True, slots=True)
class Work:
    """What one micro-batch of a run is, as far as memory and time depend on it."""

    spec: DecoderSpec
    adapter: AdapterSection
    precision: str  # how the base weights are held
    compute_dtype: str  # fp32, bf16 or fp16
    optimizer: str
    tokens: int  # at most in one micro-batch, all its sequences together
    longest: int  # tokens of the longest sequence
    checkpointing: bool
    cuda: bool
    ranks: int = 1  # processes that share each step
    host: int | None = None  # bytes of host memory that may be pinned; None: any number
    tiles: bool = True  # whether a long micro-batch's rows may be taken some at a time
    room: int | None = None  # bytes by which tiles are chosen; None: the budget

    @property
    def full(self) -> bool:
        """Whether every weight is trained."""
        return self.adapter.kind == "none"


def linear_parameters(spec: DecoderSpec) -> int:
    """Weights of all projections in all layers."""
    return sum(out * into * count for out, into, count in spec.linear_shapes().values())


def targets(spec: DecoderSpec, adapter: AdapterSection) -> dict[str, tuple[int, int, int]]:
    """Projection -> (out, in, count) of those that carry an adapter."""
    if adapter.kind == "none":
        return {}
    shapes = spec.linear_shapes() | {"lm_head": (spec.vocab_size, spec.hidden_size, 1)}
    if adapter.target_modules == "all-linear":
        return spec.linear_shapes()
    named = {name.rpartition(".")[2] for name in adapter.target_modules}
    return {name: shape for name, shape in shapes.items() if name in named}


def adapter_parameters(spec: DecoderSpec, adapter: AdapterSection) -> int:
    """Trained weights of the adapter: r (in + out) a projection, DoRA, biases, whole modules."""
    total = 0
    for name, (out, into, count) in targets(spec, adapter).items():
        total += count * (adapter.r * (into + out) + (out if adapter.use_dora else 0))
        if adapter.bias != "none" and name != "lm_head" and spec.has_bias(name):
            total += count * out
    return total + saved_parameters(spec, adapter)


def saved_parameters(spec: DecoderSpec, adapter: AdapterSection) -> int:
    """Weights of `modules_to_save`, which are trained as a copy; a tied pair counts once."""
    shapes = {name: (o * i * n) for name, (o, i, n) in spec.linear_shapes().items()}
    table = spec.vocab_size * spec.hidden_size
    named = {name.rpartition(".")[2] for name in adapter.modules_to_save}
    total = sum(shapes.get(name, 0) for name in named)
    tables = len(named & {"lm_head", "embed_tokens"})
    return total + table * (min(tables, 1) if spec.tied_embeddings else tables)


def trained_parameters(spec: DecoderSpec, adapter: AdapterSection) -> int:
    """Weights that get a gradient."""
    if adapter.kind == "none":
        return spec.parameters()
    return adapter_parameters(spec, adapter)


def memory(work: Work) -> dict[str, int]:
    """Peak of one step by term, see `plan.MEMORY_TERMS`."""
    trained = trained_parameters(work.spec, work.adapter)
    own = {
        "weights": weight_bytes(work),
        "adapters": 0 if work.full else 4 * trained,
        "gradients": 4 * trained,
        "optimizer": int(ADAMW_BYTES[work.optimizer] * trained),
        "activations": _activations(work),
        "logits": _logits(work),
    }
    return {**own, "context": _context(work, own)}


def weight_bytes(work: Work) -> int:
    """The base weights: fp32 masters when all are trained, else as `precision` holds them."""
    spec, linear = work.spec, linear_parameters(work.spec)
    if work.full:
        return 4 * spec.parameters()
    rest = spec.parameters() - linear
    if work.precision == "nf4":
        return int(linear * NF4_BYTES) + rest * DTYPE_BYTES[work.compute_dtype]
    if work.precision == "int8":
        scales = sum(4 * out * count for out, _, count in spec.linear_shapes().values())
        return linear + scales + rest * DTYPE_BYTES[work.compute_dtype]
    return spec.parameters() * DTYPE_BYTES[work.precision]


def _activations(work: Work) -> int:
    """What the forward pass keeps for the backward pass, and the peak inside one layer."""
    b = DTYPE_BYTES[work.compute_dtype]
    ends = work.tokens * work.spec.hidden_size * 3 * b  # hidden states and their gradients
    again = _layer_bytes(work) if work.checkpointing else 0
    return kept_bytes(work) + again + ends + _backward_peak(work)


def kept_bytes(work: Work) -> int:
    """What lies between the passes: every layer's tensors, or with checkpointing its input."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    final_norm = work.tokens * spec.hidden_size * (4 + _trained_norm(work))
    if work.checkpointing:
        return spec.num_layers * work.tokens * spec.hidden_size * b + final_norm
    return spec.num_layers * _layer_bytes(work) + final_norm


def _layer_bytes(work: Work) -> int:
    """What one layer keeps for its backward pass."""
    return work.tokens * _kept_per_token(work) + _cast_copies(work) // work.spec.num_layers


def _kept_per_token(work: Work) -> int:
    """Bytes a layer keeps for each token, adapter on every projection or every weight trained."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    h, i, q, k = _sizes(spec)
    norms = 2 * (4 * h + b * h)  # the fp32 input and the normed output, which the LoRA A needs
    norms += 2 * _trained_norm(work) * h
    if spec.sandwich_norms:
        norms += 2 * (4 + _trained_norm(work)) * h
    if spec.qk_norm:
        norms += (4 + _trained_norm(work)) * (q + k)
    heads = b * (q + 2 * k + q) + 4 * spec.num_heads if _own_attention(work) else 4 * b * q
    attention = heads + b * q  # and the copy that the o projection reads
    mlp = 4 * b * i  # gate, its activation, up, their product
    return norms + attention + mlp + _adapter_per_token(work)


def _trained_norm(work: Work) -> int:
    """Bytes a feature that a norm keeps besides its input, for the gradient of its weight."""
    if not work.full:
        return 0
    return 4 if work.spec.norm_weight_fp32 else DTYPE_BYTES[work.compute_dtype]


def _adapter_per_token(work: Work) -> int:
    """x A^T of every adapter, and with dropout a copy of its input and the mask."""
    b, layers = DTYPE_BYTES[work.compute_dtype], work.spec.num_layers
    inside = [s for n, s in targets(work.spec, work.adapter).items() if n != "lm_head"]
    kept = len(inside) * work.adapter.r * b
    if work.adapter.lora_dropout:
        kept += sum(into * (b + 1) for _, into, _ in inside)
    return kept if layers else 0


def _cast_copies(work: Work) -> int:
    """Dense weights held in another dtype than the products' leave a cast copy in the graph."""
    held = "fp32" if work.full else work.precision
    if held in ("nf4", "int8", work.compute_dtype):
        return 0
    return linear_parameters(work.spec) * DTYPE_BYTES[work.compute_dtype]


def _backward_peak(work: Work) -> int:
    """Gradients that live at once inside a layer; with our own attention its fp32 copies too."""
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    h, i, q, k = _sizes(spec)
    mlp = work.tokens * (4 * b * i + 2 * (4 + b) * h)
    if not _own_attention(work):
        return mlp
    scores = work.tokens * spec.num_heads * min(QUERY_BLOCK, work.longest) * 4 * 5
    return max(mlp, work.tokens * 4 * (4 * q + 4 * k) + scores)


def _own_attention(work: Work) -> bool:
    """Whether the explicit attention runs: torch's fused one is not repeatable on a GPU."""
    windows = [w for w in work.spec.windows if w is not None and w < work.longest]
    return work.cuda or work.spec.attention_softcap is not None or bool(windows)


def _logits(work: Work) -> int:
    """One chunk of logits with its gradient, the head in the compute dtype, and dW if trained.

    The kernel puts the gradient in the logits' place; the reference holds both in fp32.
    """
    spec, b = work.spec, DTYPE_BYTES[work.compute_dtype]
    if work.cuda:
        rows, stride = buffer_shape(work.tokens, spec.vocab_size, b)
        chunk = rows * stride * b
    else:
        chunk = min(REFERENCE_TOKENS, work.tokens) * spec.vocab_size * (2 * 4 + b)
    head = spec.vocab_size * spec.hidden_size
    held = "fp32" if work.full else work.precision
    cast = 0 if held in ("nf4", "int8", work.compute_dtype) else head * b
    trained = work.full or {"lm_head", "embed_tokens"} & set(work.adapter.modules_to_save)
    return chunk + work.tokens * spec.hidden_size * 2 * b + cast + (4 * head if trained else 0)


def _context(work: Work, own: dict[str, int]) -> int:
    """Libraries, the expanded copy of one quantised weight, and what fragmentation wastes."""
    largest = max(out * into for out, into, _ in work.spec.linear_shapes().values())
    expanded = 0
    if work.precision in ("nf4", "int8") and not work.full:
        expanded = largest * (DTYPE_BYTES[work.compute_dtype] + 4)
    moving = own["activations"] + own["logits"] + own["gradients"]
    if work.cuda:
        return cuda_context(work) + expanded + int(CUDA_FRAGMENTATION * moving)
    return CPU_CONTEXT + _exchange(work) + expanded + int(CPU_FRAGMENTATION * moving)


def cuda_context(work: Work) -> int:
    """What libraries take on a GPU, with the exchange of gradients between processes."""
    return CUDA_CONTEXT + _exchange(work)


def _exchange(work: Work) -> int:
    trained = trained_parameters(work.spec, work.adapter)
    return exchange.workspace_bytes(trained, work.ranks, cuda=work.cuda)


def _sizes(spec: DecoderSpec) -> tuple[int, int, int, int]:
    """H, I, Q, K."""
    query, key = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    return spec.hidden_size, spec.intermediate_size, query, key


def checkpoint_bytes(spec: DecoderSpec, adapter: AdapterSection, optimizer: str) -> int:
    """One checkpoint: trained weights in fp32 and the optimizer's state."""
    trained = trained_parameters(spec, adapter)
    return int(trained * (4 + ADAMW_BYTES[optimizer])) + MIB
