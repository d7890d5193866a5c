"""The tensors of a layer's forward pass when its backward pass asks for them: found or made again.

What was kept or has come back from the host is found. The rest is computed once more from what
comes before it, into scratch, and only when somebody asks.
"""

from __future__ import annotations

from torch import Tensor

from ftlab.models.fused import layer_forward as ahead
from ftlab.models.fused.layer import Group, Layer
from ftlab.models.fused.layer_forward import Run


class Remake:
    """One layer's tensors; each is made at most once."""

    def __init__(self, run: Run, layer: Layer) -> None:
        self.run, self.layer = run, layer
        self._found: dict[str, Tensor] = {}
        self._normed: Group | None = None  # whose input lies in the scratch

    def input(self) -> Tensor:
        """The residual stream before attention, [T, H]."""
        if not self._known("input"):
            raise AssertionError("the input of a layer is kept or offloaded")
        return self._found["input"]

    def qkv(self) -> Tensor:
        """[T, Q + 2 K]."""
        if not self._known("qkv"):
            self.normed(self.layer.qkv)
            self._found["qkv"] = ahead.queries_keys_values(self.run, self.layer, fresh=False)
        return self._found["qkv"]

    def attention(self) -> Tensor:
        """[T, Q + pad]."""
        if not self._known("attention"):
            self._found["attention"] = ahead.attend(self.run, self.layer, self.qkv())
        return self._found["attention"]

    def attention_out(self) -> Tensor:
        """What the o projection gives before the norm that follows it, [T, H]."""
        if not self._known("attention_out"):
            attended = self.attention()
            self._found["attention_out"] = ahead.output(self.run, self.layer, attended, fresh=False)
        return self._found["attention_out"]

    def middle(self) -> Tensor:
        """The residual stream before the MLP, [T, H]."""
        if not self._known("middle"):
            run, layer = self.run, self.layer
            stream, out = self.input(), self.attention_out()
            update = ahead.after_attention(run, layer, out)
            self._found["middle"] = ahead.add_attention(run, layer, stream, update)
            self._normed = layer.gate_up
        return self._found["middle"]

    def gate_up(self) -> Tensor:
        """[T, 2 I + pad]."""
        if not self._known("mlp"):
            self.normed(self.layer.gate_up)
            self._found["mlp"] = ahead.gates(self.run, self.layer, fresh=False)
        return self._found["mlp"]

    def mlp_out(self) -> Tensor:
        """What the down projection gives before the norm that follows it, [T, H]."""
        if not self._known("mlp_out"):
            product = ahead.activate(self.run, self.layer, self.gate_up())
            self._found["mlp_out"] = ahead.project_mlp(self.run, self.layer, product, fresh=False)
        return self._found["mlp_out"]

    def normed(self, group: Group) -> Tensor:
        """The normed stream that a group reads, [T, H + pad]."""
        run, layer = self.run, self.layer
        first = group is layer.qkv
        stream = self.input() if first else self.middle()
        out = ahead.normed(run, layer, group)
        if self._normed is not group:
            bound = layer.attention_norm if first else layer.mlp_norm
            ahead.norm(run, bound, stream, out, layer.index, "rstd1" if first else "rstd2")
            self._normed = group
        return out

    def _known(self, item: str) -> bool:
        if item not in self._found:
            held = self.run.storage.find(self.layer.index, item)
            if held is not None:
                self._found[item] = held
        return item in self._found
