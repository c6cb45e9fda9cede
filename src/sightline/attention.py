"""Attention, read from the autograd graph: the weights that any transformer computed, and the score's gradient there.

Node names and saved tensors are private to torch, as in `sightline.graph`; the tables below are pinned by a test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from sightline.errors import RefusedError
from sightline.graph import find_nodes
from sightline.windows import Edge, find_value, heads_of, slots_of

__all__ = ["Attention", "find_attention", "gradients_kept", "has_fused"]

_SOFTMAXES = frozenset({"SoftmaxBackward0", "SafeSoftmaxBackward0"})
_FUSED: Mapping[str, str] = {  # node -> its saved mask
    "ScaledDotProductFlashAttentionForCpuBackward0": "_saved_attn_mask",
    "ScaledDotProductEfficientAttentionBackward0": "_saved_attn_bias",
    "ScaledDotProductFlashAttentionBackward0": "",
    "ScaledDotProductCudnnAttentionBackward0": "_saved_attn_bias",
}


@dataclass(frozen=True, eq=False)
class Attention:
    """One attention of a pass: its node, and its weights (R, heads, t, t), each row's sum 1.

    Attention over all tokens has R = N and t = T. Within windows there are several for each image: ``slots`` (N, *S)
    then says where in (R, t) each position of the image lies.
    """

    node: Node
    weights: Tensor
    slots: Tensor | None = None

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The positions *S that the windows cover, or None for attention over all tokens."""
        return None if self.slots is None else tuple(self.slots.shape[1:])

    @property
    def tokens(self) -> int:
        """The number of tokens T of an image."""
        return self.weights.shape[-1] if self.slots is None else self.slots[0].numel()

    def gradient(self, entering: Tensor) -> Tensor:
        """Return the gradient at the weights from the one that enters the node in the backward pass."""
        if self.node.name() in _SOFTMAXES:
            return entering.detach().reshape(self.weights.shape)
        value: Tensor = self.node._saved_value  # type: ignore[attr-defined]
        return (entering.detach() @ value.detach().mT).reshape(self.weights.shape)

    def through(self, shares: Tensor, matrix: Tensor) -> Tensor:
        """Return shares (N, T) @ matrix, the matrix (R, t, t) being one block of all tokens for each window."""
        if self.slots is None:
            return (shares.unsqueeze(1) @ matrix).squeeze(1)
        places = self.slots.flatten()
        inside = shares.new_zeros(matrix.shape[:2]).flatten().index_put((places,), shares.flatten())
        return (inside.reshape(len(matrix), 1, -1) @ matrix).flatten()[places].reshape(shares.shape)

    def inner(self) -> Tensor:
        """Return 1 for each place (R, t) that holds a token, 0 for padding."""
        found = self.weights.new_zeros(len(self.weights) * self.weights.shape[-1])
        places = torch.arange(len(found), device=found.device) if self.slots is None else self.slots.flatten()
        return found.index_fill(0, places, 1).reshape(len(self.weights), -1)


def find_attention(root: Node | None, rows: int, size: Sequence[int]) -> list[Attention]:
    """Return the self-attentions below ``root``, in the order in which they ran, for N = ``rows`` images of ``size``.

    Those over all tokens; where some stay within windows, all of them, each with the places of its windows.
    Raises RefusedError where there is none, or where the windows cannot be followed to the image.
    """
    nodes = sorted(find_nodes(root), key=lambda n: n._sequence_nr())
    read = [(n, w) for n in nodes if (w := _weights(n)) is not None and len(w) % rows == 0]
    if not read:
        raise RefusedError(
            "this model has no attention that can be read; use grad_cam, or occlusion where it shows no layers."
        )
    read = [(n, w if w.ndim == 4 else _unpacked(n, w, nodes, rows)) for n, w in read]
    if any(len(w) > rows for _, w in read):
        return [_placed(n, w, nodes, rows, size) for n, w in read]
    tokens = read[-1][1].shape[-1]
    whole = [Attention(n, w) for n, w in read]
    return [a for a in whole if a.tokens == tokens]


def _placed(node: Node, weights: Tensor, nodes: Sequence[Node], rows: int, size: Sequence[int]) -> Attention:
    found = _value_of(node, nodes)
    slots = None if found is None else slots_of(*found, len(weights), size, weights.device)
    if slots is None or len(slots) != rows:
        raise RefusedError(
            "this model's attention stays within windows, and where they lie on the image could not be followed; use "
            "grad_cam."
        )
    return Attention(node, weights, slots)


def _unpacked(node: Node, weights: Tensor, nodes: Sequence[Node], rows: int) -> Tensor:
    """Tell heads that lie side by side with the images, as `nn.MultiheadAttention` has them, from windows."""
    found = _value_of(node, nodes) if len(weights) > rows else None
    heads = None if found is None else heads_of(*found, weights.device)
    return weights.unsqueeze(1) if heads is None else weights.unflatten(0, (-1, heads))


def _value_of(node: Node, nodes: Sequence[Node]) -> tuple[Edge, tuple[int, ...]] | None:
    if node.name() in _SOFTMAXES:
        return find_value(node, nodes)
    source, output = node.next_functions[2]
    shape = tuple(node._saved_value.shape)  # type: ignore[attr-defined]
    return None if source is None else ((source, output), shape)


def has_fused(root: Node | None) -> bool:
    """Say whether fused attention lies below ``root``."""
    return any(n.name() in _FUSED for n in find_nodes(root))


def _weights(node: Node) -> Tensor | None:
    name = node.name()
    if name in _SOFTMAXES:
        result: Tensor = node._saved_result  # type: ignore[attr-defined]
        square = result.ndim in (3, 4) and result.shape[-1] == result.shape[-2] > 1
        return result.detach() if square else None
    return _of_fused(node, _FUSED[name]) if name in _FUSED else None


def _of_fused(node: Node, mask_name: str) -> Tensor | None:
    """Compute softmax(q k^T scale + mask), which a fused node does not keep."""
    query, key = (t.detach() for t in (node._saved_query, node._saved_key))  # type: ignore[attr-defined]
    if query.shape != key.shape:
        return None
    scale = getattr(node, "_saved_scale", None) or query.shape[-1] ** -0.5
    mask = getattr(node, mask_name, None) if mask_name else None
    scores = query @ key.mT * scale
    return torch.softmax(scores if mask is None else scores + mask.detach(), -1)


@contextlib.contextmanager
def gradients_kept(attentions: Sequence[Attention]) -> Iterator[dict[Node, Tensor]]:
    """Keep what enters each attention's node while a backward pass runs."""
    kept: dict[Node, Tensor] = {}

    def keep(node: Node):  # type: ignore[no-untyped-def]
        def hook(entering: tuple[Tensor | None, ...]) -> None:
            if entering[0] is not None:
                kept[node] = entering[0].clone()

        return hook

    with contextlib.ExitStack() as stack:
        for a in attentions:
            stack.callback(a.node.register_prehook(keep(a.node)).remove)
        yield kept
