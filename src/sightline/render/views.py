"""How a map is shown on what it explains: one look for photographs and for the slices of a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import ParameterError, suggest
from sightline.render import scale
from sightline.render.contour import contours
from sightline.render.legend import legend
from sightline.render.overlay import View, alpha_scaled, heatmap_image, masked, overlay
from sightline.render.palette import Style
from sightline.render.photo import resized_map
from sightline.render.scale import Limits
from sightline.render.sheet import Room

__all__ = ["CAPTIONS", "EVIDENCE_FOR", "VIEWS", "Look", "key_of", "known_view", "look_of", "shown_map"]

EVIDENCE_FOR: tuple[View, ...] = ("masked", "alpha_scaled")


class Look(NamedTuple):
    """How a map is coloured: what every view needs besides photo and values."""

    style: Style
    colormap: str | None
    limits: Limits
    share_of: str
    opacity: float


def known_view(view: View) -> View:
    """Return the view as it came; raise ParameterError where there is no such view."""
    if view not in VIEWS:
        raise ParameterError(f"no view {view!r}: use {', '.join(VIEWS)}.{suggest(str(view), VIEWS)}")
    return view


def look_of(
    way: View,
    values: NDArray[np.floating[Any]],
    style: Style,
    colormap: str | None,
    percentile: float,
    limits: Limits | None,
    opacity: float,
) -> Look:
    """Return how ``values`` of any shape (rows, ...) are coloured in a view; ``limits`` come from them unless given."""
    if way in EVIDENCE_FOR:
        # These show what speaks for the class only, so only that may set how much is much.
        style, values = "sequential", np.maximum(values, 0)
    flat = values.reshape(len(values), -1)
    found = scale.checked_limits(limits or scale.limits(flat, style, percentile), style)
    value = "the largest value" if percentile == 100 else f"the {percentile:g}th percentile"
    return Look(style, colormap, found, "the limit" if limits else value, opacity)


def shown_map(values: NDArray[np.floating[Any]], size: tuple[int, int], look: Look) -> tuple[NDArray[np.float32], Look]:
    """Return an (H, W) map at another size (width, height), clipped and near 1, and the look that fits it."""
    # Clipped and brought near 1 first: outliers must not bleed into the mean, nor float64 leave float32.
    low, high = look.limits
    unit = max(abs(low), abs(high)) or 1.0
    kept = np.abs(values) if look.style == "grey" else values
    small = resized_map(kept.clip(low, high) / unit, size)
    return small, look._replace(limits=(low / unit, high / unit))


VIEWS: dict[View, Callable[[NDArray[np.uint8], NDArray[np.float32], Look], Image.Image]] = {
    "overlay": lambda photo, values, look: overlay(
        photo,
        values,
        style=look.style,
        colormap=look.colormap,
        limits=look.limits,
        heatmap_opacity=look.opacity,
    ),
    "heatmap": lambda _, values, look: heatmap_image(
        values, style=look.style, colormap=look.colormap, limits=look.limits
    ),
    "masked": lambda photo, values, look: masked(photo, values, limits=look.limits),
    "alpha_scaled": lambda photo, values, look: alpha_scaled(photo, values, limits=look.limits),
    "contours": lambda photo, values, look: contours(
        photo, values, style=look.style, colormap=look.colormap, limits=look.limits
    ),
}

CAPTIONS: dict[View, Callable[[Look], str]] = {
    "overlay": lambda look: f"heatmap over the photo, {look.opacity:.0%} opaque",
    "heatmap": lambda _: "heatmap",
    "masked": lambda look: f"in colour: at least half of {look.share_of}",
    "alpha_scaled": lambda _: "the photo, fading where the heatmap is low",
    "contours": lambda look: f"lines at 25, 50 and 75 % of {look.share_of}",
}


def key_of(
    way: View,
    values: NDArray[np.floating[Any]],
    look: Look,
    room: Room,
    units: str | None,
    ends: tuple[str, str] | None,
) -> Image.Image:
    """Return the colour bar of what is shown, one column of the card wide."""
    low, high = look.limits
    sizes = np.abs(values) if look.style == "grey" else values
    unseen = np.isnan(values)
    barless = way in EVIDENCE_FOR or unseen.all()
    return legend(
        None if barless else look.limits,
        style=look.style,
        width=room.column,
        colormap=look.colormap,
        units=units,
        share_of=look.share_of,
        ends=ends,
        beyond=(bool((sizes < low).any()), bool((sizes > high).any())),
        not_seen=bool(unseen.any()),
        over_photo=way != "heatmap",
        zoom=room.zoom,
    )
