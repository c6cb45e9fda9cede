"""A map on its photograph: laid over it, cut out of it, faded by it, or drawn as lines.

Every function returns an RGB image of exactly the photo's size. Nothing is ever turned round: higher values
lie nearer the upper end of the colormap, and channels are red, green, blue. Where the map is NaN (the centre
crop of the model cut the picture off) the photo is dimmed and hatched, which no colormap does.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import ParameterError
from sightline.render import scale
from sightline.render.palette import Style, colour_table, colourise
from sightline.render.photo import as_mask, check_same_size, greyed, hatched, rgb
from sightline.render.scale import Limits, checked_map, normalise

__all__ = ["View", "alpha_scaled", "heatmap_image", "masked", "overlay"]

View = Literal["overlay", "heatmap", "masked", "alpha_scaled", "contours"]
"""The ways to show a map with its photo."""


def overlay(
    photo: NDArray[Any],
    heatmap: NDArray[Any],
    *,
    style: Style,
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    percentile: float = 100.0,
    limits: Limits | None = None,
    photo_colour: float | None = None,
    threshold: float = 0.0,
) -> Image.Image:
    """Return the (H, W) map laid over the uint8 (H, W[, 3 or 4]) photo.

    ``heatmap_opacity`` is the opacity of the map: 0 is the photo as it came, 1 only the map. A diverging map
    has that opacity at zero, and more where its values are larger, so that single strong pixels are seen.
    ``photo_colour`` is the share of its colour that the photo keeps; unless given, it loses it as the opacity
    grows (faster below a diverging map), so that a colourful photo is not taken for the map. Where the map's size is
    below ``threshold`` (0..1) of the upper limit, the photo is left as it came.
    ``limits`` are the values at the ends of the colormap, for pictures that share a scale; unless given, they
    come from ``percentile``. Raises ImageError, InputError or ParameterError for what cannot be used.

    >>> red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    >>> overlay(red, np.zeros((2, 2)), style="sequential", heatmap_opacity=0).getpixel((0, 0))
    (255, 0, 0)
    """
    opacity = checked_share("heatmap_opacity", heatmap_opacity)
    below, positions = _below_and_positions(photo, heatmap, style, percentile, limits)
    colours = Image.fromarray(colourise(positions, colour_table(colormap, style)))
    kept = _photo_colour(style, opacity) if photo_colour is None else photo_colour
    photo_below = greyed(below, checked_share("photo_colour", kept))
    picture = _laid(colours, photo_below, positions, opacity, style)
    if checked_share("threshold", threshold):
        picture = Image.composite(picture, below, as_mask(_sizes(positions, style) >= threshold))
    return hatched(picture, np.isnan(positions), below)


def heatmap_image(
    heatmap: NDArray[Any],
    *,
    style: Style,
    colormap: str | None = None,
    percentile: float = 100.0,
    limits: Limits | None = None,
) -> Image.Image:
    """Return the (H, W) map alone, as an RGB image of its size; what was not seen is hatched in light grey.

    ``limits`` are the values at the ends of the colormap; unless given, they come from ``percentile``.
    Raises InputError or ParameterError for what cannot be used.

    >>> heatmap_image(np.array([[0.0, 1.0]]), style="grey").getpixel((1, 0))
    (255, 255, 255)
    """
    positions = normalise(heatmap, style, limits or scale.limits(heatmap, style, percentile))
    colours = Image.fromarray(colourise(positions, colour_table(colormap, style)))
    return hatched(colours, np.isnan(positions), None)


def masked(
    photo: NDArray[Any],
    heatmap: NDArray[Any],
    *,
    threshold: float = 0.5,
    top: float | None = None,
    percentile: float = 100.0,
    limits: Limits | None = None,
) -> Image.Image:
    """Return the photo with only what speaks most for the class in colour; the rest is grey and pale.

    Kept are the values of at least ``threshold`` (0..1) times the upper limit, or, if ``top`` is given, that
    share (0..1) of the pixels that were seen, with all that tie with the last of them. Only values above zero
    are ever kept. Raises ImageError, InputError or ParameterError for what cannot be used.

    >>> blue = np.full((1, 2, 3), (0, 0, 255), np.uint8)
    >>> [masked(blue, np.array([[0.0, 1.0]])).getpixel((x, 0)) for x in (0, 1)]
    [(160, 160, 160), (0, 0, 255)]
    """
    below, strengths = _below_and_strengths(photo, heatmap, percentile, limits)
    cut = checked_share("threshold", threshold) if top is None else _cut_of_top(strengths, top)
    kept = (strengths >= cut) & (strengths > 0)
    picture = Image.composite(below, _paled(below), as_mask(kept))
    return hatched(picture, np.isnan(strengths), below)


def alpha_scaled(
    photo: NDArray[Any],
    heatmap: NDArray[Any],
    *,
    faintest: float = 0.08,
    percentile: float = 100.0,
    limits: Limits | None = None,
) -> Image.Image:
    """Return the photo fading to white where the map is low: its opacity is the map, from ``faintest`` to 1.

    Values at or below zero are the faintest. Raises ImageError, InputError or ParameterError for what
    cannot be used.

    >>> black = np.zeros((1, 2, 3), np.uint8)
    >>> [alpha_scaled(black, np.array([[0.0, 1.0]]), faintest=0).getpixel((x, 0)) for x in (0, 1)]
    [(255, 255, 255), (0, 0, 0)]
    """
    below, strengths = _below_and_strengths(photo, heatmap, percentile, limits)
    least = checked_share("faintest", faintest)
    white = Image.new("RGB", below.size, (255, 255, 255))
    picture = Image.composite(below, white, as_mask(least + (1 - least) * strengths))
    return hatched(picture, np.isnan(strengths), below)


def checked_share(name: str, share: float) -> float:
    """Return a number in 0..1; raise ParameterError for another."""
    if not 0 <= share <= 1:
        raise ParameterError(f"{name} is a number from 0 to 1, not {share}")
    return share


def _below_and_positions(
    photo: NDArray[Any], heatmap: NDArray[Any], style: Style, percentile: float, limits: Limits | None
) -> tuple[Image.Image, NDArray[np.floating[Any]]]:
    below, values = rgb(photo), checked_map(heatmap)
    check_same_size(below, values)
    return below, normalise(values, style, limits or scale.limits(values, style, percentile))


def _below_and_strengths(
    photo: NDArray[Any], heatmap: NDArray[Any], percentile: float, limits: Limits | None
) -> tuple[Image.Image, NDArray[np.floating[Any]]]:
    # Evidence against the class is no strength: the scale begins at zero whatever the lowest value is.
    evidence = np.maximum(checked_map(heatmap), 0)
    ends = limits or scale.limits(evidence, "sequential", percentile)
    return _below_and_positions(photo, evidence, "sequential", percentile, (0.0, max(ends[1], 0.0)))


def _photo_colour(style: Style, opacity: float) -> float:
    return max(0.0, 1 - 2 * opacity) if style == "diverging" else 1 - opacity


def _laid(
    colours: Image.Image, below: Image.Image, positions: NDArray[Any], opacity: float, style: Style
) -> Image.Image:
    if style != "diverging":
        return Image.blend(below, colours, opacity)
    return Image.composite(colours, below, as_mask(1 - (1 - opacity) ** (1 + _sizes(positions, style))))


def _sizes(positions: NDArray[Any], style: Style) -> NDArray[Any]:
    """Return how large each value is, 0..1, whichever its sign."""
    return np.abs(2 * positions - 1) if style == "diverging" else positions


def _cut_of_top(strengths: NDArray[np.floating[Any]], top: float) -> float:
    seen = strengths[~np.isnan(strengths)]
    kept = math.ceil(checked_share("top", top) * seen.size)
    return float(np.partition(seen, seen.size - kept)[seen.size - kept]) if kept else math.inf


def _paled(photo: Image.Image) -> Image.Image:
    return Image.blend(greyed(photo), Image.new("RGB", photo.size, (232, 232, 232)), 0.65)
