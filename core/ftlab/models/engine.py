"""Decoder: the forward pass of every family, on CPU and GPU.

Padding-free: sequences lie end to end on one token axis [T]. Products run in `compute_dtype` by
explicit casts, statistics and losses in fp32. Dropout is counter-based, so a layer that is
computed again in the backward pass gets the same bits and there is no RNG state.

The layers run in one of two ways: `fused`, by hand through shared buffers (`models.fused`), or as
the reference, block by block under autograd, which is what the tests compare the other to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ftlab.models.block import LAYER_SITES, Block, Tables
from ftlab.models.fused.folded import FoldedGroup
from ftlab.models.fused.layer import Group
from ftlab.models.fused.layer_forward import Tap
from ftlab.models.fused.stack import Stack, stack
from ftlab.models.graphed import Graphs, Settings
from ftlab.models.layers import Embedding, Lookup, Mode, Norm, Projection
from ftlab.models.recompute import recomputed
from ftlab.models.rng import DeviceKeys, StepRng
from ftlab.models.rope import tables
from ftlab.models.spec import DecoderSpec
from ftlab.models.tokens import Tokens
from ftlab.planning.schedule import KEEP_ALL, RECOMPUTE_ALL, Schedule, tile_of, uniform
from ftlab_kernels.attention_layout import LONG
from ftlab_kernels.linear_cross_entropy import linear_cross_entropy
from ftlab_kernels.linear_logprob import linear_logprob
from ftlab_kernels.reference.attention import Layout, layout

__all__ = ["Decoder", "StepRng"]


class Decoder:
    """A causal LM bound to the parameters of one model; made by `attach`."""

    def __init__(
        self,
        *,
        model: nn.Module,
        spec: DecoderSpec,
        compute_dtype: torch.dtype,
        embedding: Embedding,
        blocks: tuple[Block, ...],
        norm: Norm,
        head: Projection,
    ) -> None:
        self.model = model
        self.spec = spec
        self.compute_dtype = compute_dtype
        self.embedding = embedding
        self.blocks = blocks
        self.norm = norm
        self.head = head
        self.training = True
        self.fused = True
        self.schedule: Schedule | None = None  # of the fused layers; None: by `checkpointing`
        self.folds: bool | None = None  # LoRA folded into larger products; None: on a GPU
        self.graphs: Graphs | None = None  # where passes of the same shape are replayed
        self.tap: Tap | None = None  # told of what the fused layers make
        self._stacks: dict[bool, Stack] = {}

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.embedding.tuned.device

    def losses(
        self,
        tokens: Tokens,
        *,
        rng: StepRng | None = None,
        checkpointing: bool = False,
        label_smoothing: float = 0.0,
        adapter: bool = True,
    ) -> Tensor:
        """Cross-entropy of every token of a micro-batch: fp32 [T], 0 where the label is -100.

        Arguments as in `hidden`; on a GPU the pass may be a captured graph's.
        """
        return self._pass(tokens, Settings(False, checkpointing, label_smoothing, adapter), rng)

    def logprobs(
        self,
        tokens: Tokens,
        *,
        rng: StepRng | None = None,
        checkpointing: bool = False,
        adapter: bool = True,
    ) -> Tensor:
        """Log-probability of every label of a micro-batch: as `losses`."""
        return self._pass(tokens, Settings(True, checkpointing, 0.0, adapter), rng)

    def hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor | Sequence[int] | Layout,
        *,
        rng: StepRng | DeviceKeys | None = None,
        checkpointing: bool = False,
        adapter: bool = True,
    ) -> Tensor:
        """The hidden states after the final norm.

        Args:
            input_ids: int64 [T].
            position_ids: int64 [T], from 0 in every sequence.
            cu_seqlens: [n + 1] boundaries of the sequences (int32), best on the CPU.
            rng: where dropout takes its masks from; None, or `eval_mode`, means no dropout.
            checkpointing: keep one tensor a layer and compute the rest again in backward; where
                the layers are fused and there is a `schedule`, that decides instead.
            adapter: False computes the base model (the reference of DPO).

        Returns:
            [T, H] in compute_dtype.
        """
        mode = Mode(rng if self.training else None, adapter)
        plan = cu_seqlens if isinstance(cu_seqlens, Layout) else layout(cu_seqlens, self.device)
        input_ids, position_ids = input_ids.to(self.device), position_ids.to(self.device)
        rotations = self._tables(position_ids, plan)
        if self.fused:
            chosen = RECOMPUTE_ALL if checkpointing else KEEP_ALL
            schedule = self.schedule or uniform(self.spec.num_layers, chosen)
            layers = self._stack(adapter)
            layers.tap = self.tap
            enters = self._enter(input_ids, mode, tiled=bool(tile_of(schedule)))
            return layers(enters, rotations, plan, schedule, mode.rng)
        x = self.embedding(input_ids, self.compute_dtype, mode)
        for block in self.blocks:
            if checkpointing and torch.is_grad_enabled():
                x = recomputed(block, x, rotations, plan, mode)
            else:
                x = block(x, rotations, plan, mode)
        return self.norm(x, mode)

    def token_loss(
        self,
        hidden: Tensor,
        labels: Tensor,
        *,
        label_smoothing: float = 0.0,
        adapter: bool = True,
        compact: bool = True,
    ) -> Tensor:
        """Cross-entropy of each position against its label.

        Args:
            hidden: [T, H] from `hidden`.
            labels: int64 [T], the next token, -100 where no loss is taken.
            compact: False computes rows without a label as well, and waits for nothing.

        Returns:
            fp32 [T], 0 where the label is -100.
        """
        hidden, weight = self._head(hidden, adapter)
        return linear_cross_entropy(
            hidden,
            weight,
            labels.to(self.device),
            softcap=self.spec.logit_softcap,
            label_smoothing=label_smoothing,
            compact=compact,
        )

    def token_logprobs(
        self, hidden: Tensor, labels: Tensor, *, adapter: bool = True, compact: bool = True
    ) -> Tensor:
        """Log-probability of each label: fp32 [T], 0 where the label is -100."""
        hidden, weight = self._head(hidden, adapter)
        return linear_logprob(
            hidden,
            weight,
            labels.to(self.device),
            softcap=self.spec.logit_softcap,
            compact=compact,
        )

    def logits(self, hidden: Tensor, *, adapter: bool = True) -> Tensor:
        """[..., H] to [..., V] in compute_dtype, soft-capped where the family does so."""
        values = self.head(hidden.flatten(0, -2), Mode(None, adapter))
        if self.spec.logit_softcap is not None:
            values = self.spec.logit_softcap * torch.tanh(values / self.spec.logit_softcap)
        return values.view(*hidden.shape[:-1], -1)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that is trained, by PEFT's (or Hugging Face's) name, in fixed order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def train_mode(self) -> None:
        """Dropout on (where an rng is given)."""
        self.training = True
        self.model.train()

    def eval_mode(self) -> None:
        """Dropout off."""
        self.training = False
        self.model.eval()

    def keep_gradients(self, sinks: Mapping[int, Tensor]) -> None:
        """Add gradients to tensors that stay where they are from step to step.

        Args:
            sinks: the `grad` of every trained parameter, by the parameter's id.
        """
        self._stack(adapter=True).sinks = sinks

    def replay(self) -> None:
        """From now on capture training passes as CUDA graphs and replay them.

        Gradients must be kept (`keep_gradients`), because a graph adds to them where they are.

        Raises:
            ValueError: this model's passes cannot be captured; `uncapturable` says why.
        """
        reason = self.uncapturable()
        if reason is not None:
            raise ValueError(reason)
        windows = {window for window in self.spec.windows if window is not None}
        drops = any(group.drops for group in self._groups())
        sites = self.spec.num_layers * LAYER_SITES if drops else 0
        self.graphs = Graphs(self._compute, self.device, sites, sorted({LONG, *windows}))

    def uncapturable(self) -> str | None:
        """Why passes of this model cannot be captured, or None."""
        if self.device.type != "cuda":
            return f"the model is on {self.device.type}"
        if not self.fused:
            return "the layers run one by one"
        if self._stack(adapter=True).parameters and not self._stack(adapter=True).sinks:
            return "gradients are not kept from step to step"
        if self.schedule is not None and tile_of(self.schedule):
            return "rows are taken some at a time, and each keeps the device busy for long enough"
        if any(rope.depends_on_length for rope in self.spec.ropes):
            return "the rotation depends on the longest sequence of a batch"
        if any(group.drops and not isinstance(group, FoldedGroup) for group in self._groups()):
            return "dropout beside DoRA or trained weights draws its masks on the host"
        return None

    def _enter(self, input_ids: Tensor, mode: Mode, *, tiled: bool) -> Tensor | Lookup:
        """What the layers begin with."""
        weight = self.embedding.tuned if mode.adapter else self.embedding.base
        if tiled and not weight.requires_grad:
            return Lookup(self.embedding, input_ids, self.compute_dtype, mode)
        return self.embedding(input_ids, self.compute_dtype, mode)

    def _groups(self) -> list[Group]:
        """Every group of projections of the adapted model."""
        return [group for layer in self._stack(adapter=True).layers for group in layer.groups]

    def _pass(self, tokens: Tokens, settings: Settings, rng: StepRng | None) -> Tensor:
        rng = rng if self.training else None
        # Evaluation too: what it launched by itself would take memory beside that of the graphs.
        replays = self.tap is None and (self.training or not torch.is_grad_enabled())
        if self.graphs is not None and replays and tokens.packed is not None:
            return self.graphs(tokens, settings, rng)
        return self._compute(tokens, tokens.plan(), settings, rng)

    def _compute(
        self, tokens: Tokens, plan: Layout, settings: Settings, rng: StepRng | DeviceKeys | None
    ) -> Tensor:
        """fp32 [T] from tokens, whatever the objective makes of it."""
        hidden = self.hidden(
            tokens.input_ids,
            tokens.position_ids,
            plan,
            rng=rng,
            checkpointing=settings.checkpointing,
            adapter=settings.adapter,
        )
        labels, picked = tokens.labels, tokens.picked
        if picked is not None:
            hidden, labels = hidden.index_select(0, picked), labels.index_select(0, picked)
        rule: dict[str, Any] = {"adapter": settings.adapter, "compact": picked is None}
        if settings.logprobs:
            values = self.token_logprobs(hidden, labels, **rule)
        else:
            values = self.token_loss(
                hidden, labels, label_smoothing=settings.label_smoothing, **rule
            )
        if picked is None:
            return values
        everywhere = torch.zeros(len(tokens.labels), dtype=values.dtype, device=values.device)
        return everywhere.index_copy(0, picked, values)

    def _stack(self, adapter: bool) -> Stack:
        """The layers bound for the adapted or the base model, at the first pass that needs them."""
        if adapter not in self._stacks:
            self._stacks[adapter] = stack(
                self.spec, self.blocks, self.norm, self.compute_dtype,
                adapter=adapter, folds=self.folds,
            )  # fmt: skip
        return self._stacks[adapter]

    def _tables(self, position_ids: Tensor, plan: Layout) -> list[Tables]:
        length = plan.longest
        if any(rope.depends_on_length for rope in self.spec.ropes):
            length = int(position_ids.max()) + 1
        return [tables(rope, position_ids, length, self.compute_dtype) for rope in self.spec.ropes]

    def _head(self, hidden: Tensor, adapter: bool) -> tuple[Tensor, Tensor]:
        """What to multiply: hidden [T, K] and weight [V, K]."""
        held = (self.head.tuned if adapter else self.head.base).weight
        weight = held if isinstance(held, Tensor) else held.dequantise(hidden.dtype)
        lora = self.head.lora if adapter else None
        if lora is None:
            return hidden, weight
        # [h, s h A^T] [W, B]^T is the adapted head, without a second product of size [T, V].
        low_rank = lora.scaling * (hidden @ lora.a.to(hidden.dtype).t())
        wide = torch.cat((weight.to(hidden.dtype), lora.b.to(hidden.dtype)), dim=1)
        return torch.cat((hidden, low_rank), dim=1), wide
