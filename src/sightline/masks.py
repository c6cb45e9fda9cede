"""Where an image is covered: sliding windows, random masks, segments, and coalitions of segments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import ParameterError

__all__ = [
    "SMOOTH",
    "Segments",
    "SegmentsName",
    "overlapping_segments",
    "random_masks",
    "segments_of",
    "windows",
]

SegmentsName = Literal["grid", "slic"]
Segments: TypeAlias = SegmentsName | Tensor
Place: TypeAlias = tuple[slice, ...]
SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def windows(size: Sequence[int], window: float, stride: float) -> list[Place]:
    """Return windows that slide over ``size`` and cover all of it, the last ones moved back to its edge.

    Below 1, ``window`` and ``stride`` are shares of each side, else pixels. Raises ParameterError for gaps.

    >>> windows((5,), 2, 2)
    [(slice(0, 2, None),), (slice(2, 4, None),), (slice(3, 5, None),)]
    """
    sides = [(side, _length(side, window), _length(side, stride)) for side in size]
    if any(step > length for _, length, step in sides):
        raise ParameterError(
            f"stride={stride:g} is larger than window={window:g}, so places between windows would never be covered; "
            "give a smaller stride."
        )
    return list(itertools.product(*(_along(*side) for side in sides)))


def _length(side: int, wanted: float) -> int:
    return min(side, max(1, round(wanted * side if wanted < 1 else wanted)))


def _along(side: int, window: int, stride: int) -> list[slice]:
    starts = [*range(0, side - window, stride), side - window]
    return [slice(s, s + window) for s in starts]


def random_masks(
    size: Sequence[int], cells: int, keep: float, count: int, seed: int, *, resized: bool = False
) -> Iterator[Tensor]:
    """Yield smooth random masks (*S) from 0 to 1: ``cells`` a side, each kept with probability ``keep``, shifted.

    As in RISE, sec. 3.2: the cells are enlarged by one cell more than the image and a random window is cut. With
    ``resized`` they are enlarged by ``cells`` pixels more only, and divided by their maximum.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = [1 if resized else math.ceil(side / cells) for side in size]
    shifts = [cells if resized else step for step in steps]
    larger = [side + cells if resized else (cells + 1) * step for side, step in zip(size, steps, strict=True)]
    for _ in range(count):
        coarse = (torch.rand((1, 1, *[cells] * len(size)), generator=generator) < keep).float()
        smooth = F.interpolate(coarse, size=larger, mode=SMOOTH[len(size)], align_corners=False)[0, 0]
        starts = [int(torch.randint(0, shift, (1,), generator=generator)) for shift in shifts]
        mask = smooth[tuple(slice(s, s + side) for s, side in zip(starts, size, strict=True))]
        yield mask / mask.max().clamp(min=1e-12) if resized else mask


def segments_of(how: Any, count: int, x: Tensor) -> Tensor:
    """Return segment numbers (N, *S) from 0 for images ``x`` (N, C, *S): a grid, SLIC superpixels, or those given.

    Given segments are whole numbers (*S) or (N, *S). Raises ParameterError for another shape or type.
    """
    if isinstance(how, (Tensor, np.ndarray)):
        return _given(torch.as_tensor(how), x)
    if how == "slic" and x.ndim > 3:
        return torch.stack([_slic(image, count) for image in x])
    return _grid(count, x.shape[2:]).expand(len(x), *x.shape[2:]).to(x.device)


def _given(labels: Tensor, x: Tensor) -> Tensor:
    if labels.is_floating_point() or tuple(labels.shape) not in (tuple(x.shape[2:]), (len(x), *x.shape[2:])):
        raise ParameterError(
            f"segments of shape {tuple(labels.shape)} and {labels.dtype} came; wanted whole numbers of shape "
            f"{tuple(x.shape[2:])}, the input's size, or one such map for each image."
        )
    _, numbered = torch.unique(labels, return_inverse=True)
    shaped: Tensor = numbered.expand(len(x), *x.shape[2:]).to(x.device)
    return shaped


def _grid(count: int, size: Sequence[int]) -> Tensor:
    """Number the cells of a grid of about ``count`` equal cells."""
    step = (math.prod(size) / count) ** (1 / len(size))
    sides = [min(side, max(1, round(side / step))) for side in size]
    labels = torch.zeros(tuple(size), dtype=torch.long)
    for axis, (side, cells) in enumerate(zip(size, sides, strict=True)):
        index = (torch.arange(side) * cells // side).reshape([-1 if a == axis else 1 for a in range(len(size))])
        labels = labels * cells + index
    return labels


def _slic(image: Tensor, count: int) -> Tensor:
    from skimage.segmentation import slic

    values = image.detach().float().cpu().numpy()
    low, high = values.min(), values.max()
    scaled = (values - low) / max(float(high - low), 1e-12)
    labels = slic(scaled, n_segments=count, compactness=30.0, channel_axis=0, start_label=0)
    if count > 1 and not labels.any():
        raise ParameterError("SLIC finds only one segment in this image; give segments='grid', or your own.")
    return torch.as_tensor(labels, dtype=torch.long, device=image.device)


def overlapping_segments(image: Tensor) -> np.ndarray:
    """Return masks (M, H, W) of an image (C, H, W): graph-based segments at six scales, each grown a little.

    Scales, least size and growth are those of Kapishnikov et al. 2019 (arXiv:1906.02825) for images of 224 x 224.
    """
    from scipy import ndimage
    from skimage.segmentation import felzenszwalb

    values = image.detach().float().cpu().numpy()
    values = values if len(values) == 3 else values.mean(0, keepdims=True)
    picture = np.moveaxis(2 * (values - values.min()) / max(float(np.ptp(values)), 1e-12) - 1, 0, -1)
    area = picture[..., 0].size / 224**2
    disc = _disc(max(1, round(5 * area**0.5)))
    masks = []
    for scale in (50, 100, 150, 250, 500, 1200):
        labels = felzenszwalb(picture, scale=scale * area, sigma=0.8, min_size=max(1, round(150 * area)))
        masks += [ndimage.binary_dilation(labels == label, disc) for label in np.unique(labels)]
    return np.unique(np.stack(masks), axis=0)


def _disc(radius: int) -> np.ndarray:
    across = np.arange(-radius, radius + 1)
    return np.asarray(across[:, None] ** 2 + across**2 <= radius**2)
