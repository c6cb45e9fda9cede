"""Gradients added up along paths that are no straight lines: (N, C, *S), signed."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from sightline.methods.gradient import Count, of_rows
from sightline.methods.registry import Range, method
from sightline.points import Baseline, baseline_of, gaussian_blur
from sightline.recording import Recording

Share = Annotated[float, Range(0, 1)]


def _wide(x: Tensor) -> Tensor:
    """Return half precision as float32: small steps along a path would be lost in its rounding."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@method(family="gradient", cite="Xu et al. 2020, arXiv:2004.03383, eq. 3-5", reads="input")
def blur_ig(rec: Recording, max_sigma: Annotated[float, Range(1e-3)] = 0.2, steps: Count = 50) -> Tensor:
    """The gradient integrated from the blurred image to the sharp one: ∫ ds/dx · dx/dσ dσ = f(x) - f(blurred).

    ``max_sigma`` is the Gaussian's width in pixels, or below 1 its share of the longest side. ``steps`` are denser
    where the image is nearly sharp.
    """
    x, most = _wide(rec.x), max_sigma * max(rec.x.shape[2:]) if max_sigma < 1 else max_sigma
    middles = (_blurred(x, most * ((i + 0.5) / steps) ** 2).to(rec.x) for i in range(steps))
    attribution, sharper = torch.zeros_like(x), x
    for i, g in enumerate(rec.gradients_at(middles), 1):
        blurrier = _blurred(x, most * (i / steps) ** 2)
        attribution, sharper = attribution + (sharper - blurrier) * g, blurrier
    rec.promise(attribution, rec.scores - next(rec.scores_at([sharper.to(rec.x)])))
    return attribution


def _blurred(x: Tensor, sigma: float) -> Tensor:
    return x if sigma < 0.1 else gaussian_blur(x, sigma)  # of a narrower one a pixel's neighbours get nothing


@method(family="gradient", cite="Kapishnikov et al. 2021, arXiv:2106.09788, sec. 4, alg. 1", reads="input")
def guided_ig(
    rec: Recording, baseline: Baseline = "zero", steps: Count = 50, fraction: Share = 0.25, max_dist: Share = 0.02
) -> Tensor:
    """Integrated gradients along a path that moves the pixels of the smallest gradient first: f(x) - f(b).

    At each step the ``fraction`` of the values with the smallest gradient moves on, none further than ``max_dist``
    from the straight path; 0 is integrated gradients. A step's gradient is the mean of those at its two ends: the
    first end's, by which the values were chosen for being small, would leave the sum far from complete. Which values
    move hangs on tiny differences, so that rounding can turn the path: in float32 an image of a batch may get another.
    """
    end = _wide(rec.x)
    start = _wide(baseline_of(of_rows(baseline, rec), rec.x, rec.model.preprocessing, rec.seed))
    attribution, x, g = torch.zeros_like(end), start, next(rec.gradients_at([start.to(rec.x)]))
    for step in range(1, steps + 1):
        moved = _moved(x, g, start, end, step / steps, fraction, max_dist)
        later = next(rec.gradients_at([moved.to(rec.x)])) if step < steps else rec.gradient("input")
        attribution, x, g = attribution + (moved - x) * (g + later) / 2, moved, later
    rec.promise(attribution, rec.scores - next(rec.scores_at([start.to(rec.x)])))
    return attribution


def _moved(x: Tensor, g: Tensor, start: Tensor, end: Tensor, alpha: float, fraction: float, max_dist: float) -> Tensor:
    """Move ``x`` on until only (1 - alpha) of the distance from start to end is left, smallest gradients first."""
    low, high = (start + min(1.0, max(0.0, alpha + far)) * (end - start) for far in (-max_dist, max_dist))
    behind = (x - start).abs() < (low - start).abs()
    x = torch.where(behind, low, x)
    due = (end - x).abs().flatten(1).sum(1) - (1 - alpha) * (end - start).abs().flatten(1).sum(1)
    shares = _shares((high - x).abs().flatten(1), g.abs().flatten(1), due, fraction)
    return torch.lerp(x, high, shares.reshape(x.shape))


def _shares(room: Tensor, size: Tensor, due: Tensor, fraction: float) -> Tensor:
    """Return how much of its room (N, D) each value takes, so that ``due`` (N,) is taken in all.

    Values are taken in groups, a fraction of all in each, from the smallest gradient on; the last group in part.
    """
    order = torch.where(room > 0, size, torch.inf).argsort(dim=1, stable=True)
    each = max(1, math.ceil(fraction * room.shape[1]))
    groups = torch.nn.functional.pad(room.gather(1, order), (0, -room.shape[1] % each)).unflatten(1, (-1, each)).sum(2)
    left = due.unsqueeze(1) - groups.cumsum(1) + groups
    taken = torch.where(groups > 0, left / torch.where(groups > 0, groups, 1.0), 0.0).clamp(0, 1)
    return torch.zeros_like(room).scatter(1, order, taken.repeat_interleave(each, 1)[:, : room.shape[1]])
