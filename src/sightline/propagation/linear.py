"""LRP's rules for linear layers, as gradients that differ from the layer's own.

A rule shares out each output's relevance R_k in proportion to terms z_ik of its inputs: R_i = Σ_k z_ik R_k / Σ_i z_ik.
What flows here is the modified gradient m with R = x · m, so that sums, averages, reshapes and the skips of residual
networks need no rule of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.propagation.nodes import OURS

__all__ = ["Composite", "Group", "Linear", "LinearRule", "Made", "apply_linear", "away_from_zero", "stabilised"]

_Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]
_Outputs = Literal["all", "positive", "negative"]
First = Literal["flat", "w_square", "z_box"]


@dataclass(frozen=True)
class Group:
    """Terms that share out relevance: ``on_positive`` weighs positive inputs, ``on_negative`` negative ones.

    ``share`` of the relevance of the outputs of that sign goes by these terms; the bias takes its part of it.
    """

    on_positive: Tensor
    on_negative: Tensor
    bias: Tensor | None
    share: float = 1.0
    outputs: _Outputs = "all"


@dataclass(frozen=True)
class LinearRule:
    """A rule for linear layers: its one or two groups of terms, and the stabiliser of denominators."""

    groups: Callable[[Tensor, Tensor | None], tuple[Group, ...]]
    epsilon: float = 1e-6
    first: First | None = None


@dataclass(frozen=True)
class Composite:
    """Which rule a layer gets: convolutions, dense layers, and the first layer where it has one of its own.

    ``box`` are the least and greatest input values (1, C, *S), for z-box. ``last`` is the rule of the last layer.
    """

    conv: LinearRule
    dense: LinearRule
    first: LinearRule | None = None
    last: LinearRule | None = None
    box: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class Linear:
    """A linear layer: ``apply(x, weight, bias)``, and along which dimension of the weight its output channels lie."""

    kind: Literal["conv", "dense"]
    apply: _Map
    weight: Tensor
    bias: Tensor | None
    channel: int | None
    rule: LinearRule
    number: int

    def scaled(self, factor: Tensor, shift: Tensor) -> Linear:
        """Return the layer followed by factor · y + shift for each channel."""
        shape = [1] * self.weight.ndim
        shape[self.channel or 0] = -1
        bias = shift if self.bias is None else self.bias * factor + shift
        weight = self.weight * factor.reshape(shape)
        return replace(self, weight=weight.to(self.weight), bias=bias.to(self.weight))


@dataclass(frozen=True)
class Made:
    """How a tensor was made: by which layer from which input, its dimensions permuted by ``order`` since."""

    layer: Linear
    x: Tensor
    order: tuple[int, ...]


def stabilised(values: Tensor, epsilon: float) -> Tensor:
    """Move values away from zero by epsilon, zero itself upwards."""
    return values + torch.copysign(torch.full((), epsilon, dtype=values.dtype, device=values.device), values)


def away_from_zero(values: Tensor) -> Tensor:
    """Replace zeros, by which the relevance of a first layer could not be divided and multiplied again."""
    least = torch.finfo(values.dtype).tiny ** 0.25
    return torch.where(values.abs() < least, least, values)


class _Layer(torch.autograd.Function):
    """A linear layer that computes what it always does and passes relevance on by a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, compute: Callable[[], Tensor], made: Made, run: Any) -> Tensor:
        y = compute()
        ctx.save_for_backward(x, y.clone())  # an in-place activation may follow
        ctx.made, ctx.run = made, run
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, y = ctx.saved_tensors
        wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        back = sorted(range(y.ndim), key=ctx.made.order.__getitem__)
        relevance = (gradients[0].to(wide) * y.to(wide)).permute(back)
        layer, composite = ctx.made.layer, ctx.run.rule.settings
        if composite.last is not None and layer.number == ctx.run.linear_layers:
            layer = replace(layer, rule=composite.last)
        found = _shared_out(layer, x.to(wide), y.to(wide).permute(back), relevance, composite)
        return found.to(x.dtype), None, None, None


_apply_layer: Callable[..., Tensor] = _Layer.apply
OURS.add("_LayerBackward")


def apply_linear(run: Any, compute: Callable[[], Tensor], made: Made) -> Tensor:
    """Compute a linear layer under its rule, and remember how its output was made."""
    y: Tensor = _apply_layer(made.x, compute, replace(made, x=made.x.detach()), run)
    run.mark("made", y, made)
    return y


def _shared_out(layer: Linear, x: Tensor, y: Tensor, relevance: Tensor, composite: Composite) -> Tensor:
    weight, bias = layer.weight.to(x), None if layer.bias is None else layer.bias.to(x)
    if layer.rule.first is not None:
        return _first(layer, weight, x, relevance, composite.box) / away_from_zero(x)
    groups = layer.rule.groups(weight, bias)
    shared = ((group, _of_sign(relevance, y, group.outputs)) for group in groups)
    # After a ReLU no relevance comes to negative outputs, so that their group need not be computed.
    parts = [(g.share, _by(g, layer, x, part)) for g, part in shared if g.outputs == "all" or bool(part.any())]
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return functools.reduce(torch.add, (share * part for share, part in parts), torch.zeros_like(x))


def _of_sign(relevance: Tensor, y: Tensor, outputs: _Outputs) -> Tensor:
    if outputs == "all":
        return relevance
    return relevance * (y > 0 if outputs == "positive" else y < 0)


def _by(group: Group, layer: Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """Return m = R / x for one group: the transposed layer applied to R / z, by the sign of each input."""
    if group.on_positive is group.on_negative or float(x.min()) >= 0:
        return _pulled(layer, [(x, group.on_positive, group.bias)], relevance)[0]
    parts = [(x.clamp(min=0), group.on_positive, group.bias), (x.clamp(max=0), group.on_negative, None)]
    for_positive, for_negative = _pulled(layer, parts, relevance)
    return torch.where(x >= 0, for_positive, for_negative)


def _pulled(
    layer: Linear, parts: Sequence[tuple[Tensor, Tensor, Tensor | None]], relevance: Tensor
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x, _, _ in parts]
        terms = [layer.apply(leaf, w, b) for leaf, (_, w, b) in zip(leaves, parts, strict=True)]
        z = functools.reduce(torch.add, terms)
        below = stabilised(z.detach(), layer.rule.epsilon)
        return torch.autograd.grad(z, leaves, torch.div(relevance, below, out=below))


def _first(layer: Linear, weight: Tensor, x: Tensor, relevance: Tensor, box: Any) -> Tensor:
    """Return R itself by a rule whose terms do not have x as a factor: w², flat (1), or x w - l w⁺ - h w⁻."""
    if layer.rule.first == "z_box":
        return _z_box(layer, weight, x, relevance, box)
    terms = weight**2 if layer.rule.first == "w_square" else torch.ones_like(weight)
    return _pulled(layer, [(torch.ones_like(x), terms, None)], relevance)[0]


def _z_box(layer: Linear, weight: Tensor, x: Tensor, relevance: Tensor, box: Any) -> Tensor:
    low, high = _bounds(x, box)
    places = [(x, weight, None), (low, -weight.clamp(min=0), None), (high, -weight.clamp(max=0), None)]
    pulled = _pulled(layer, places, relevance)
    return torch.stack([place * p for (place, _, _), p in zip(places, pulled, strict=True)]).sum(0)


def _bounds(x: Tensor, box: tuple[tuple[float, ...], tuple[float, ...]] | None) -> tuple[Tensor, Tensor]:
    """Return the least and greatest value each input can have, widened where the image itself lies outside."""
    per_channel = box is not None and x.ndim > 2 and len(box[0]) == x.shape[1]
    dims = tuple(range(2 if per_channel else 1, x.ndim))
    low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    if box is not None:
        lows, highs = (torch.tensor(b).to(x) for b in box)
        channels = (1, -1, *[1] * (x.ndim - 2))
        low = torch.minimum(low, lows.reshape(channels) if per_channel else lows.min())
        high = torch.maximum(high, highs.reshape(channels) if per_channel else highs.max())
    return low.expand_as(x), high.expand_as(x)
