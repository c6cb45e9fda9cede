"""Marks: boxes, outlines and masks of what should be marked in one picture, painted where its size is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sightline.errors import InputError
from sightline.paths import shown

__all__ = ["Mark", "Size", "box_mark", "by", "file_mark", "outline_mark", "pixels_of", "run_mark"]

Size: TypeAlias = tuple[int, int]
Extent: TypeAlias = tuple[float, float, float, float]

_JPEG = (".jpg", ".jpeg", ".jfif")


@dataclass(frozen=True, eq=False)
class Mark:
    """One box, polygon or mask: ``paint`` sets its pixels in a bool (H, W) that is a whole picture.

    ``where`` is the place in the file, ``extent`` (left, top, right, bottom) in pixels, None where only painting tells;
    ``size`` is the picture's, where the file says it.
    """

    where: str
    paint: Callable[[np.ndarray], None]
    extent: Extent | None = None
    size: Size | None = None


def box_mark(where: str, extent: Extent, size: Size | None = None) -> Mark:
    """Mark the pixels whose centres are in a box, one at least; InputError for one without an inside."""
    left, top, right, bottom = extent
    if not (left < right and top < bottom):
        raise InputError(
            f"{where}: the box {left:g},{top:g},{right:g},{bottom:g} is empty; wanted xmin < xmax, ymin < ymax."
        )

    def paint(canvas: np.ndarray) -> None:
        canvas[_pixels(top, bottom, len(canvas)), _pixels(left, right, canvas.shape[1])] = True

    return Mark(where, paint, extent, size)


def _pixels(low: float, high: float, size: int) -> slice:
    """Return the pixels whose centres lie between two places, one at least."""
    first = min(max(0, math.ceil(low - 0.5)), size - 1)
    return slice(first, max(first + 1, min(size, math.ceil(high - 0.5))))


def outline_mark(where: str, outlines: list[np.ndarray], size: Size | None) -> Mark:
    """Mark the pixels whose centres are in any of the outlines, (points, 2) as x, y."""
    points = np.concatenate(outlines)

    def paint(canvas: np.ndarray) -> None:
        from skimage.draw import polygon

        for outline in outlines:
            canvas[polygon(outline[:, 1] - 0.5, outline[:, 0] - 0.5, canvas.shape)] = True

    low, high = points.min(0).tolist(), points.max(0).tolist()
    return Mark(where, paint, (low[0], low[1], high[0], high[1]), size)


def run_mark(where: str, counts: list[int], size: Size) -> Mark:
    """Mark runs of pixels down the columns, those that are not marked first."""

    def paint(canvas: np.ndarray) -> None:
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        canvas |= flat.reshape(size[1], size[0]).T

    if min(counts, default=-1) < 0 or sum(counts) != size[0] * size[1]:
        raise InputError(f"{where}: the runs do not add up to the {by(size)} pixels of the mask; write it again.")
    return Mark(where, paint, None, size)


def pixels_of(value: Any, where: str, what: str) -> float:
    """Return what was read as a number of pixels; InputError where it is none."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) < 1e7:  # NaN too
        raise InputError(f"{where}: {what} is {shown(repr(value))[:40]}; wanted a number of pixels.")
    return found


def file_mark(file: Path) -> Mark:
    """Mark what is not 0 in an image file of the picture's size, which is read when it is needed."""
    said = shown(str(file))
    if file.suffix.casefold() in _JPEG:
        raise InputError(f"{said} is a JPEG, which keeps no exact zeros around the object; save masks as PNG.")

    def paint(canvas: np.ndarray) -> None:
        from sightline.images import read_mask

        mask = read_mask(file)
        if mask.shape != canvas.shape:
            raise InputError(f"{said} is {by(mask.shape)} and its picture {by(canvas.shape)}; wanted the same size.")
        canvas |= mask

    return Mark(said, paint)


def by(size: Sequence[int]) -> str:
    """Return a size (height, width) as people say it, width first."""
    return f"{size[1]}x{size[0]}"
