"""Which autograd nodes a rule may leave to their own gradient; all others were not seen, and are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node

__all__ = ["LINEAR", "OURS", "ROUTING", "plain_name", "unseen"]

OURS: set[str] = set()  # nodes of the rules themselves

# Linear in what varies: the gradient is the only multiplier there is.
LINEAR = frozenset({
    "AccumulateGrad", "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Add", "Addmm", "Addmv", "Alias",
    "AsStrided", "AvgPool1D", "AvgPool2D", "AvgPool3D", "Bmm", "Cat", "Clone", "Col2Im", "ConstantPadNd",
    "Convolution", "Copy", "CopyBackwards", "CopySlices", "CudnnBatchNorm", "Cumsum", "Diagonal", "Div", "Expand",
    "Flip", "Gather", "Im2Col", "Index", "IndexSelect", "MaskedFill", "Mean", "MkldnnConvolution", "Mm", "Mul", "Mv",
    "NativeBatchNorm", "NativeChannelShuffle", "Neg", "Permute", "PixelShuffle", "PixelUnshuffle", "ReflectionPad1D",
    "ReflectionPad2D", "ReflectionPad3D", "Repeat", "ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D",
    "ReshapeAlias", "Roll", "Rsub", "Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum",
    "T", "ToCopy", "Transpose", "Tril", "Triu", "Unbind", "Unfold", "UnsafeSplit", "UnsafeView", "Unsqueeze",
    "UpsampleBicubic2D", "UpsampleBilinear2D", "UpsampleLinear1D", "UpsampleNearest1D", "UpsampleNearest2D",
    "UpsampleNearest3D", "UpsampleTrilinear3D", "View", "ViewAsReal",
})  # fmt: skip

# Not linear, but the gradient passes relevance on as LRP wants it: each output to the inputs that made it.
ROUTING = frozenset({
    "AdaptiveMaxPool1D", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D", "Amax", "Amin", "LeakyRelu", "LogSoftmax", "Max",
    "MaxPool1DWithIndices", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Maximum", "Min", "Minimum", "Prelu",
    "PreluKernel", "Relu", "Softmax", "Threshold", "Where",
})  # fmt: skip

_PRODUCTS = ("Mul", "Bmm", "Mm", "Div", "Addmm")


def plain_name(node: Node) -> str:
    """Return a node's name without what torch adds: MulBackward0 is Mul."""
    name = node.name().rpartition("::")[2]
    return name if name in ("CopyBackwards", "AccumulateGrad") else name.rstrip("0123456789").removesuffix("Backward")


def unseen(nodes: Sequence[Node], allowed: Collection[str]) -> dict[str, int]:
    """Count the nodes whose own gradient stands in for a rule that nobody wrote."""
    return dict(Counter(n.name() for n in nodes if not _is_allowed(n, allowed)))


def _is_allowed(node: Node, allowed: Collection[str]) -> bool:
    if _is_custom(node):
        return node.name() in OURS
    name = plain_name(node)
    if name in ("NativeBatchNorm", "CudnnBatchNorm") and _saved(node, "_saved_training", False):
        return False
    return name in allowed and ("Product" in allowed or not _is_product(name, node))


def _is_custom(node: Node) -> bool:
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def _is_product(name: str, node: Node) -> bool:
    """Say whether both factors vary, or the divisor does."""
    if name not in _PRODUCTS:
        return False
    varying = [source is not None for source, _ in node.next_functions[-2:]]
    return len(varying) == 2 and (varying[1] if name == "Div" else all(varying))


def _saved(node: Any, name: str, default: Any) -> Any:
    return getattr(node, name, default)
