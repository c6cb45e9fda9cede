"""What could be where an image is covered: its surroundings continued smoothly, as heat would spread."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.masks import SMOOTH

__all__ = ["inpaint"]

_SWEEPS = 12


def inpaint(x: Tensor, known: Tensor) -> Tensor:
    """Return images (N, C, *S) as they are where ``known`` (N or 1, 1, *S), elsewhere the mean of their neighbours.

    Harmonic filling, from coarse to fine: each size starts from the half as large one and is averaged a few times.
    Where nothing is known all of it becomes the image's mean.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    return torch.where(known, x, _filled(wide, known.to(wide), wide.flatten(2).mean(2)).to(x))


def _filled(x: Tensor, known: Tensor, mean: Tensor) -> Tensor:
    """Fill what is not known (0) of one size; what there is no coarser size for becomes the mean (N, C)."""
    size = x.shape[2:]
    start = mean.reshape(*mean.shape, *[1] * len(size)).expand_as(x)
    if max(size) > 1:
        half = [(side + 1) // 2 for side in size]
        share = _halved(known, half)
        coarse = _halved(x * known, half) / share.clamp(min=1e-12)
        below = _filled(coarse, (share > 0).to(x), mean)
        start = F.interpolate(below, size=size, mode=SMOOTH[len(size)], align_corners=False)
    values = torch.where(known > 0, x, start)
    for _ in range(_SWEEPS):
        values = torch.where(known > 0, x, _neighbours(values))
    return values


def _halved(values: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(values, size=size, mode="area")


def _neighbours(values: Tensor) -> Tensor:
    """Average the two neighbours along each axis, the border repeated."""
    padded = F.pad(values, (1, 1) * (values.ndim - 2), mode="replicate")
    middle = [slice(1, -1)] * (values.ndim - 2)
    sides = []
    for axis in range(values.ndim - 2):
        for shifted in (slice(None, -2), slice(2, None)):
            place = (slice(None), slice(None), *middle[:axis], shifted, *middle[axis + 1 :])
            sides.append(padded[place])
    return torch.stack(sides).mean(0)
