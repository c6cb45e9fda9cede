"""Is what lies at a place the same in one image after the other, as a watermark is and an object is not?

Pixels of one place are compared between images. How far pixels differ between images at other places of the same
images says what "the same" means: copies of one photo, or pictures that are all white, are alike everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sightline.batch.audit.clusters import Box
from sightline.covering import other_places

__all__ = ["Mark", "crop", "crops_of", "find_mark", "mark_scores", "places_like"]

_FINE = 1000  # boxes are moved about on a grid of this many steps a side
_LONG = 48
"""Pixels of a crop's longer side."""
_CONSTANT = 0.25
"""Of the usual deviation between images, below which a pixel is constant."""
_LEAST = 0.15
"""Of the hot box, which constant pixels must cover."""
_MARGIN = 0.5


@dataclass(frozen=True, eq=False)
class Mark:
    """Pixels that are the same in many images: where, what (h, w, 3; 0 to 255), and which pixels of the box are.

    ``likeness`` is 1 minus the deviation between images there, in units of the deviation elsewhere.
    """

    box: Box
    template: np.ndarray
    mask: np.ndarray
    usual: float
    likeness: float


def crop(pixels: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return a box of a picture (H, W, 3) at a size (height, width): float32 (h, w, 3), 0 to 255."""
    high, wide = pixels.shape[:2]
    exact = (box[0] * wide, box[1] * high, box[2] * wide, box[3] * high)
    small = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=exact, reducing_gap=2.0)
    return np.asarray(small, np.float32)


def crop_size(pixels: np.ndarray, box: Box) -> tuple[int, int]:
    """Return the size at which a box is compared: its own pixels, no more than 48 on the longer side."""
    high, wide = (box[3] - box[1]) * pixels.shape[0], (box[2] - box[0]) * pixels.shape[1]
    less = min(1.0, _LONG / max(high, wide))
    return max(2, round(high * less)), max(2, round(wide * less))


def places_like(box: Box, count: int = 8, seed: int = 0) -> list[Box]:
    """Return boxes of the same size elsewhere in the picture; fewer where there is no room."""
    fine = [round(side * _FINE) for side in box]
    found = other_places((fine[0], fine[1], fine[2], fine[3]), (0, 0, _FINE, _FINE), count, seed)
    return [(a / _FINE, b / _FINE, c / _FINE, d / _FINE) for a, b, c, d in found]


def widened(box: Box, by: float = _MARGIN) -> Box:
    """Return a box grown on each side by a share of its size, within the picture."""
    wide, high = by * (box[2] - box[0]), by * (box[3] - box[1])
    return max(0.0, box[0] - wide), max(0.0, box[1] - high), min(1.0, box[2] + wide), min(1.0, box[3] + high)


def crops_of(pictures: Sequence[np.ndarray], box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return the same box of each picture, (N, h, w, 3)."""
    return np.stack([crop(p, box, size) for p in pictures])


def find_mark(pictures: Sequence[np.ndarray], hot: Box) -> Mark | None:
    """Return what is constant at and around a hot box in pictures (H, W, 3), or None where nothing is.

    A pixel is constant where the median deviation from the median picture is below a quarter of what it is at the
    median of eight other places.
    """
    from scipy import ndimage

    window = widened(hot)
    size = crop_size(pictures[0], window)
    seen = crops_of(pictures, window, size)
    middle, deviation = _middle(seen)
    elsewhere = [_middle(crops_of(pictures, place, size))[1] for place in places_like(window)]
    usual = float(np.median(elsewhere)) if elsewhere else 0.0
    constant = ndimage.binary_opening(deviation < _CONSTANT * usual, np.ones((2, 2)))
    part = _part(constant, window, hot)
    if part is None:
        return None
    rows, columns = np.nonzero(part)
    top, low, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    likeness = 1 - float(deviation[part].mean()) / usual
    inner = slice(top, low), slice(left, right)
    return Mark(_inside(window, size, (left, top, right, low)), middle[inner], part[inner], usual, likeness)


def _middle(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median picture (h, w, 3) and the median deviation from it (h, w)."""
    middle = np.median(seen, axis=0)
    return middle, np.median(np.abs(seen - middle), axis=0).mean(-1)


def _part(constant: np.ndarray, window: Box, hot: Box) -> np.ndarray | None:
    """Return the constant part that covers most of the hot box, or None where none covers enough of it."""
    from scipy import ndimage

    parts, count = ndimage.label(constant)
    inside = _mask_of(constant.shape, window, hot)
    sizes = [int((inside & (parts == n)).sum()) for n in range(1, count + 1)]
    if not sizes or max(sizes) < _LEAST * inside.sum():
        return None
    return np.asarray(parts == int(np.argmax(sizes)) + 1)


def _mask_of(shape: tuple[int, ...], window: Box, box: Box) -> np.ndarray:
    """Return which pixels of a window of that shape lie in a box."""
    down = window[1] + (np.arange(shape[0]) + 0.5) / shape[0] * (window[3] - window[1])
    across = window[0] + (np.arange(shape[1]) + 0.5) / shape[1] * (window[2] - window[0])
    return np.outer((down > box[1]) & (down < box[3]), (across > box[0]) & (across < box[2]))


def _inside(window: Box, size: tuple[int, int], pixels: tuple[int, int, int, int]) -> Box:
    wide, high = (window[2] - window[0]) / size[1], (window[3] - window[1]) / size[0]
    left, top, right, low = (int(p) for p in pixels)
    return window[0] + left * wide, window[1] + top * high, window[0] + right * wide, window[1] + low * high


def mark_scores(pictures: Sequence[np.ndarray], mark: Mark, box: Box | None = None) -> np.ndarray:
    """Return how far each picture is from a mark, in units of the usual deviation; or at another box."""
    seen = crops_of(pictures, box or mark.box, mark.mask.shape[:2])
    return np.asarray(np.abs(seen - mark.template).mean(-1)[:, mark.mask].mean(1) / mark.usual)
