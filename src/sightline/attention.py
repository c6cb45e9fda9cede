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

__all__ = ["Attention", "find_attention", "gradients_kept"]

_SOFTMAXES = frozenset({"SoftmaxBackward0", "SafeSoftmaxBackward0"})
_FUSED: Mapping[str, str] = {  # node -> its saved mask
    "ScaledDotProductFlashAttentionForCpuBackward0": "_saved_attn_mask",
    "ScaledDotProductEfficientAttentionBackward0": "_saved_attn_bias",
    "ScaledDotProductFlashAttentionBackward0": "",
    "ScaledDotProductCudnnAttentionBackward0": "_saved_attn_bias",
}


@dataclass(frozen=True, eq=False)
class Attention:
    """One attention of a pass: its node, and its weights (N, heads, T, T), each row's sum 1."""

    node: Node
    weights: Tensor

    def gradient(self, entering: Tensor) -> Tensor:
        """Return the gradient at the weights from the one that enters the node in the backward pass."""
        if self.node.name() in _SOFTMAXES:
            return entering.detach().reshape(self.weights.shape)
        value: Tensor = self.node._saved_value  # type: ignore[attr-defined]
        return (entering.detach() @ value.detach().mT).reshape(self.weights.shape)


def find_attention(root: Node | None, rows: int) -> list[Attention]:
    """Return the self-attentions over all tokens below ``root``, in the order in which they ran, for N = ``rows``.

    Raises RefusedError where there is none, or where attention stays within windows.
    """
    nodes = sorted(find_nodes(root), key=lambda n: n._sequence_nr())
    read = [(n, w) for n in nodes if (w := _weights(n)) is not None]
    if not read:
        raise RefusedError("this model has no attention that can be read; use grad_cam or another method.")
    found = [Attention(n, w.reshape(rows, -1, *w.shape[-2:])) for n, w in read if _is_whole(w, rows)]
    if not found:
        raise RefusedError(
            "this model's attention stays within windows, so it says nothing of the whole image; use grad_cam."
        )
    tokens = found[-1].weights.shape[-1]
    return [a for a in found if a.weights.shape[-1] == tokens]


def _is_whole(weights: Tensor, rows: int) -> bool:
    return len(weights) == rows


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
