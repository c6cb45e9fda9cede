"""Methods that read the gradient at a layer, channel by channel: (N, C, *S of the layer), signed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sightline.methods.gradient import Count, of_rows
from sightline.methods.registry import method
from sightline.points import Baseline, PathRule, baseline_of, path
from sightline.recording import Recording


@method(
    family="gradient",
    cite="Shrikumar et al. 2016, arXiv:1605.01713, sec. 2 (at a layer)",
    reads="layer",
    reduction="sum",
)
def layer_gradient_x_activation(rec: Recording) -> Tensor:
    """The first-order share of each unit of a layer in the score: A · ds/dA; its sum over channels is HiResCAM."""
    return rec.activation() * rec.gradient("layer")


@method(family="gradient", cite="Leino et al. 2018, arXiv:1802.03788, def. 1", reads="layer", reduction="sum")
def internal_influence(
    rec: Recording, baseline: Baseline = "zero", steps: Count = 50, rule: PathRule = "gauss-legendre"
) -> Tensor:
    """The gradient at a layer averaged along the straight path from a baseline to the image: ∫ ds/dA da.

    At a layer that only average pooling and a linear layer follow, it is the same at all positions: give an earlier
    layer, or read it channel by channel.
    """
    line = path(steps, rule)
    total = torch.zeros(()).to(rec.x)
    for weight, (_, g) in zip(line.weights, _along(rec, line.points(rec.x, _start(rec, baseline))), strict=True):
        total = total + weight * g
    return total


@method(family="gradient", cite="Dhamdhere et al. 2018, arXiv:1805.12233, def. 1", reads="layer", reduction="sum")
def conductance(rec: Recording, baseline: Baseline = "zero", steps: Count = 50) -> Tensor:
    """How much of the change from a baseline flows through each unit of a layer: ∫ ds/dA · dA/da da.

    It adds up to f(x) - f(baseline) where all of the net runs through the layer.
    """
    start = _start(rec, baseline)
    total = torch.zeros(()).to(rec.x)
    ends = path(steps + 1, "trapezoid").points(rec.x, start)
    for (a, g), (later_a, later_g) in pairwise(_along(rec, ends)):
        total = total + (later_a - a) * (later_g + g) / 2
    rec.promise(total, rec.scores - next(rec.scores_at([start])))
    return total


def _start(rec: Recording, baseline: Baseline) -> Tensor:
    return baseline_of(of_rows(baseline, rec), rec.x, rec.model.preprocessing, rec.seed)


def _along(rec: Recording, points: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the layer's activation and gradient (N, C, *S) at each of the points."""
    for child, size in rec.children(points):
        readings = (child.activation(), child.gradient("layer"))
        yield from zip(*(r.unflatten(0, (size, -1)).unbind(0) for r in readings), strict=True)
