"""Where the windows of an attention lie on the image, followed back through the graph of the pass that was run.

Numbers take the place of values on the way from an attention to its block's input: the backward functions of views,
rolls and paddings move them as they move gradients, and what works on each position alone lets them pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from sightline.models.layouts import find_layout, to_spatial

__all__ = ["Edge", "find_value", "heads_of", "slots_of"]

Edge = tuple[Node, int]

_MOVES = frozenset({
    "AliasBackward0",
    "AsStridedBackward0",
    "CloneBackward0",
    "ConstantPadNdBackward0",
    "ExpandBackward0",
    "IndexBackward0",
    "PermuteBackward0",
    "ReshapeAliasBackward0",
    "RollBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward1",
    "TransposeBackward0",
    "UnbindBackward0",
    "UnsafeSplitBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
})  # fmt: skip
_CASTS = frozenset({"ToCopyBackward0"})
_LINEAR = {"AddmmBackward0": (1, "_saved_mat1_sym_sizes"), "MmBackward0": (0, "_saved_self_sym_sizes")}


def find_value(softmax: Node, nodes: Iterable[Node]) -> tuple[Edge, tuple[int, ...]] | None:
    """Return where the values come from that an attention's weights are multiplied with, and their shape."""
    for node in nodes:
        if node.name() == "BmmBackward0" and _leads_to(node.next_functions[0][0], softmax):
            source, output = node.next_functions[1]
            shape = tuple(node._saved_mat2.shape)  # type: ignore[attr-defined]
            return None if source is None else ((source, output), shape)
    return None


def _leads_to(node: Node | None, wanted: Node) -> bool:
    while node is not None and node is not wanted and (node.name() in _MOVES or node.name() in _CASTS):
        node = node.next_functions[0][0]
    return node is wanted


def heads_of(value: Edge, shape: tuple[int, ...], device: torch.device) -> int | None:
    """Return how many heads lie side by side among the values (heads · windows, t, d), heads last, or None."""
    windows, tokens = math.prod(shape[:-2]), shape[-2]
    numbers = torch.arange(1, windows + 1, dtype=torch.float64, device=device).reshape(windows, 1, 1)
    rows = _carried(value, numbers.expand(windows, tokens, shape[-1]).reshape(shape))[1]
    rows = rows.reshape(-1, rows.shape[-1])
    rows = rows[rows.any(1)]
    heads = len(rows[0][rows[0] > 0].unique())
    owners = ((rows - 1) // heads).masked_fill(rows == 0, torch.inf)
    first = owners.amin(1, keepdim=True)
    alike = bool(((owners == first) | (rows == 0)).all())
    return heads if alike and windows % heads == 0 else None


def slots_of(
    value: Edge, shape: tuple[int, ...], windows: int, size: Sequence[int], device: torch.device
) -> Tensor | None:
    """Return, for each position (N, *S) of a block's input, its place in the values (windows, heads, t, d), from 0.

    ``size`` is that of the model's input. None where the way back mixes positions, or is not known.
    """
    tokens = shape[-2]
    numbers = torch.arange(1, windows * tokens + 1, dtype=torch.float64, device=device)
    numbers = numbers.reshape(windows, 1, tokens, 1)
    heads = math.prod(shape[:-2]) // windows
    node, rows = _carried(value, numbers.expand(windows, heads, tokens, shape[-1]).reshape(shape))
    found = _before_linear(node, rows)
    read = (_read(found, size, channels_last=last) for last in (True, False)) if found is not None else ()
    return next((slots for slots in read if slots is not None), None)


def _read(numbers: Tensor, size: Sequence[int], *, channels_last: bool) -> Tensor | None:
    """Read the slots (N, *S) off numbers that must be the same in all channels, and each there once."""
    layout = find_layout(tuple(numbers.shape), tuple(size), channels_last=channels_last)
    if layout is None or layout.prefix:
        return None
    spread = to_spatial(numbers, layout)
    slots = spread[:, 0].long() - 1
    alike = bool((spread == spread[:, :1]).all()) and bool((slots >= 0).all())
    return slots if alike and len(slots.unique()) == slots.numel() else None


def _carried(edge: Edge, numbers: Tensor) -> tuple[Node | None, Tensor]:
    """Move numbers back as far as they are merely moved; return where they have to stop."""
    node: Node | None
    node, output = edge
    while node is not None and (node.name() in _MOVES or node.name() in _CASTS):
        numbers = _moved(node, output, numbers) if node.name() in _MOVES else numbers
        node, output = node.next_functions[0]
    return node, numbers


def _before_linear(node: Node | None, rows: Tensor) -> Tensor | None:
    """Let the numbers of rows (M, out) pass a linear layer, each row holding but one, and move on to its input."""
    if node is None or node.name() not in _LINEAR:
        return None
    place, sizes = _LINEAR[node.name()]
    number = rows.amax(1, keepdim=True)
    source, output = node.next_functions[place]
    if source is None or bool(((rows != 0) & (rows != number)).any()):
        return None
    return _carried((source, output), number.expand(len(rows), getattr(node, sizes)[-1]))[1]


def _moved(node: Node, output: int, numbers: Tensor) -> Tensor:
    given: list[Tensor | None] = [None] * len(node._input_metadata)
    given[output] = numbers
    found = node(*given)  # type: ignore[operator]
    moved: Tensor = found[0] if isinstance(found, tuple) else found
    return moved
