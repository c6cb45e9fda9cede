"""Masks found by gradient ascent: what covers an image, how coarse masks become smooth ones, and the ascent itself.

The model is only read: its score's gradient at the covered image is carried on to the mask by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from sightline.heatmap import resize
from sightline.points import Baseline, baseline_of, gaussian_blur
from sightline.recording import Recording

__all__ = [
    "Pose",
    "ascended",
    "coarse_grid",
    "covers",
    "ends_of",
    "enlarged",
    "max_convolved",
    "scale_of",
    "seen_through",
]

Pose: TypeAlias = Callable[[Tensor, int, Tensor], tuple[Sequence[tuple[float, Tensor]], Tensor]]

_BLUR = 1 / 11  # of the longer side: 20 pixels of 224
_TEMPERATURE = 1 / 20
_MEMORY = 0.9


def covers(rec: Recording, fill: Baseline, *, blurs: int = 1) -> Tensor:
    """Return the image and what covers it: (L, N, C, *S), the image itself first.

    With several ``blurs`` and the fill "blur" these grow stronger by steps, so that half covered is half blurred.
    """
    x = _wide(rec.x)
    if blurs > 1 and isinstance(fill, str) and fill == "blur":
        strongest = max(x.shape[2:]) * _BLUR
        return torch.stack([x, *(gaussian_blur(x, strongest * i / blurs) for i in range(1, blurs + 1))])
    return torch.stack([x, _wide(baseline_of(fill, rec.x, rec.model.preprocessing, rec.seed))])


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def seen_through(levels: Tensor, keep: Tensor) -> Tensor:
    """Return the images (N, C, *S) where ``keep`` (N, *S) is 1 and their cover where it is 0, between them by level."""
    place = (1 - keep).clamp(0, 1).unsqueeze(1) * (len(levels) - 1)
    below = place.detach().floor().clamp(max=len(levels) - 2)
    index = below.long().expand(levels.shape[1:])
    low, high = (levels.gather(0, i.unsqueeze(0)).squeeze(0) for i in (index, index + 1))
    return low + (place - below) * (high - low)


def coarse_grid(size: Sequence[int], cells: int) -> tuple[int, ...]:
    """Return the sides of a grid with ``cells`` along the longest side, of at most one cell for each position.

    >>> coarse_grid((224, 112), 28)
    (28, 14)
    """
    step = max(1.0, max(size) / cells)
    return tuple(max(1, round(side / step)) for side in size)


def enlarged(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge coarse masks (N, *grid) linearly to (N, *size)."""
    return resize(masks, size)


def max_convolved(masks: Tensor, sigma: float) -> Tensor:
    """Return smooth_max_v k(u - v) m(v) of coarse masks (N, *grid), k a Gaussian of ``sigma`` cells.

    A cell can then not be 1 without its neighbours being nearly so: regions come out smooth, and stay binary.
    """
    radius = math.ceil(2 * sigma)
    axes = range(1, masks.ndim)
    if radius == 0:
        return masks
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.ones((), dtype=torch.float64)
    for _ in axes:
        kernel = kernel.unsqueeze(-1) * torch.exp(-0.5 * (offsets / sigma) ** 2)
    around = torch.nn.functional.pad(masks, (radius, radius) * len(axes))
    for axis in axes:
        around = around.unfold(axis, 2 * radius + 1, 1)
    found = (around * kernel.to(masks)).flatten(masks.ndim)
    return (torch.softmax(found / _TEMPERATURE, -1) * found).sum(-1)


def scale_of(whole: Tensor, bare: Tensor) -> Tensor:
    """Return by how much covering all changes each image's score (N,): the unit in which weights are given."""
    return (whole - bare).abs().clamp(min=1e-12).maximum(1e-3 * whole.abs())


def ends_of(rec: Recording, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores (N,) of the whole image and of the one that is covered all over."""
    (bare,) = rec.scores_at([levels[-1].to(rec.x)])
    return rec.scores.to(levels), bare.to(levels)


def ascended(
    rec: Recording,
    start: Tensor,
    pose: Pose,
    *,
    scale: Tensor,
    steps: int,
    rate: float,
    enough: Tensor | None = None,
) -> Tensor:
    """Return masks in [0, 1] that make sum_k w_k score(image_k) / scale - penalty large, by ``steps`` of Adam.

    ``pose(mask, step, favour)`` gives the weights w_k, the differentiable images (N, C, *S) and the penalty; ``favour``
    is what a larger mask would have gained at the steps before, a running mean. A score that is beyond ``enough`` (N,)
    gains nothing more. Each image has masks of its own and nothing in a step mixes images, so a batch gives what
    single images give.
    """
    with torch.inference_mode(False), torch.enable_grad():
        mask = start.clone().requires_grad_()
        favour = torch.zeros_like(start)
        adam = torch.optim.Adam([mask], lr=rate)
        for step in range(steps):
            seen, penalty = pose(mask, step, favour)
            readings = _read(rec, [image.detach().to(rec.x) for _, image in seen])
            gain = torch.zeros_like(penalty)
            for (weight, image), (score, gradient) in zip(seen, readings, strict=True):
                share = weight / scale
                if enough is not None:
                    share = torch.where(weight * (score - enough) < 0, share, 0)
                gain = gain + (share * (image * gradient.to(image)).flatten(1).sum(1)).sum()
            (up,) = torch.autograd.grad(gain, mask, retain_graph=True)
            (down,) = torch.autograd.grad(penalty, mask)
            favour = _MEMORY * favour + (1 - _MEMORY) * up
            mask.grad = down - up
            adam.step()
            mask.data.clamp_(0, 1)
    return mask.detach()


def _read(rec: Recording, points: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the score (N,) and its gradient (N, C, *S) at each point."""
    for child, size in rec.children(points):
        scores, gradients = (v.unflatten(0, (size, -1)) for v in (child.scores, child.gradient("input")))
        yield from zip(scores, gradients, strict=True)
