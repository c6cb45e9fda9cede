"""The lines of equal value of a map, drawn on its photograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.errors import ParameterError
from sightline.render import scale
from sightline.render.palette import RGB, Style, colour_table, colourise
from sightline.render.photo import check_same_size, hatched, rgb
from sightline.render.scale import Limits, checked_map, normalise

__all__ = ["contours"]


def contours(
    photo: NDArray[Any],
    heatmap: NDArray[Any],
    *,
    style: Style,
    levels: Sequence[float] = (0.25, 0.5, 0.75),
    colormap: str | None = None,
    percentile: float = 100.0,
    limits: Limits | None = None,
) -> Image.Image:
    """Return the uint8 (H, W[, 3 or 4]) photo with the iso-lines of the (H, W) map, coloured by their value.

    ``levels`` are shares of the upper limit, each between 0 and 1; a diverging map has each of them on both
    sides of zero, a grey one at the sizes of its values. Made for smooth maps: a map of single pixels gives a
    tangle. A map narrower than two pixels has no lines. Raises ImageError, InputError or ParameterError for
    what cannot be used.

    >>> hill = np.outer(np.hanning(64), np.hanning(64))
    >>> contours(np.zeros((64, 64), np.uint8), hill, style="sequential").size
    (64, 64)
    """
    picture, values = rgb(photo), checked_map(heatmap)
    check_same_size(picture, values)
    ends = scale.checked_limits(limits or scale.limits(values, style, percentile), style)
    below, table = picture.copy(), colour_table(colormap, style)
    for level in _values_at(_checked_levels(levels), style, ends):
        colour = colourise(normalise(np.array([[level]]), style, ends), table)[0, 0].tolist()
        _draw(picture, np.abs(values) if style == "grey" else values, level, tuple(colour))
    return hatched(picture, np.isnan(values), below)


def _checked_levels(levels: Sequence[float]) -> Sequence[float]:
    if not all(0 < level < 1 for level in levels):
        raise ParameterError(f"levels are shares of the largest value, between 0 and 1, not {list(levels)}")
    return levels


def _values_at(levels: Sequence[float], style: Style, ends: Limits) -> Iterator[float]:
    signs = (-1.0, 1.0) if style == "diverging" else (1.0,)
    return (sign * level * ends[1] for sign in signs for level in levels if level * ends[1] > 0)


def _draw(picture: Image.Image, values: NDArray[np.floating[Any]], level: float, colour: RGB) -> None:
    lines = _iso_lines(values, level)
    width = max(min(picture.size) / 170, 1.0)
    halo = (20, 20, 20) if sum(colour) > 300 else (245, 245, 245)
    picture.paste(halo, (0, 0), _strokes(lines, picture.size, width * 2))
    picture.paste(colour, (0, 0), _strokes(lines, picture.size, width))


def _iso_lines(values: NDArray[np.floating[Any]], level: float) -> list[NDArray[np.float64]]:
    from contourpy import contour_generator

    if min(values.shape) < 2:
        return []
    lines = contour_generator(z=np.ma.masked_invalid(values)).lines(level)
    return cast("list[NDArray[np.float64]]", lines)


def _strokes(lines: list[NDArray[np.float64]], size: tuple[int, int], width: float) -> Image.Image:
    # Pillow draws without anti-aliasing, so small pictures are drawn larger; large ones do not need it.
    finer = max(1, min(4, 2400 // max(size)))
    mask = Image.new("L", (size[0] * finer, size[1] * finer))
    draw = ImageDraw.Draw(mask)
    for line in lines:
        points: list[float] = ((line + 0.5) * finer).ravel().tolist()
        draw.line(points, 255, max(round(width * finer), 1), "curve")
    return mask.reduce(finer)
