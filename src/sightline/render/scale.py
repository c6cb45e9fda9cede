"""From signed values to positions on a colour bar, and what the reader must be told about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError, ParameterError
from sightline.render.palette import Style, known_style
from sightline.render.text import compact

__all__ = ["Limits", "checked_map", "limits", "map_notes", "normalise"]

Limits = tuple[float, float]
"""The values at the two ends of a colour bar, low then high."""


def limits(heatmap: NDArray[Any], style: Style, percentile: float = 100.0) -> Limits:
    """Return the values ``(low, high)`` at the ends of the colour bar of a signed (H, W) map.

    * ``sequential``: 0 to the percentile of the values. Where the opposite percentile is negative, ``low``
      is that one, so that 0 always lies on the bar and nothing is folded over.
    * ``diverging``: minus to plus the percentile of the sizes, so that 0 is in the middle.
    * ``grey``: 0 to the percentile of the sizes; the sign is dropped.

    ``percentile`` is above 0 and at most 100; NaN is left out; where the percentile of a map that is not
    zero falls on 0 (a map that is nearly empty) its largest value is taken. A zero or unseen map has
    limits (0, 0). Raises InputError for infinite values or another shape, ParameterError for a percentile
    or style that does not exist.

    >>> limits(np.array([[0.0, 1.0, 4.0]]), "sequential")
    (0.0, 4.0)
    >>> limits(np.array([[-6.0, 1.0, 4.0]]), "diverging")
    (-6.0, 6.0)
    """
    values = _seen(checked_map(heatmap))
    rule = _RULES[known_style(style)]
    found = rule(values, checked_percentile(percentile)) if values.size else (0.0, 0.0)
    return found if any(found) or not values.any() else rule(values, 100.0)


def normalise(heatmap: NDArray[Any], style: Style, limits: Limits) -> NDArray[np.floating[Any]]:
    """Return the positions in 0..1 of a signed (H, W) map on the bar between ``limits``; NaN stays NaN.

    Higher values never lie lower, values beyond the limits lie at the ends. For ``diverging`` zero is exactly
    0.5 and the larger limit counts for both sides. A map with limits (0, 0) lies at its zero everywhere.
    Raises InputError for a map, ParameterError for limits, that cannot be used.

    >>> normalise(np.array([[-1.0, 0.0, 2.0, np.nan]]), "diverging", (-2.0, 2.0)).tolist()
    [[0.25, 0.5, 1.0, nan]]
    """
    values, (low, high) = checked_map(heatmap), checked_limits(limits, style)
    if style == "diverging" and not high:
        return values * 0 + 0.5
    return _share(np.abs(values) if style == "grey" else values, low, high)


def map_notes(heatmap: NDArray[Any]) -> tuple[str, ...]:
    """Return what a reader of an (H, W) map must be told in words, as it would look like something else.

    Raises InputError for a map that cannot be used.

    >>> map_notes(np.zeros((2, 2)))
    ('the map is zero everywhere',)
    """
    values = _seen(checked_map(heatmap))
    if not values.size:
        return ("nothing of the picture was seen",)
    if not values.any():
        return ("the map is zero everywhere",)
    if values.size > 1 and values.min() == values.max():
        return (f"the map has the same value everywhere ({compact(float(values[0]))})",)
    return ()


def checked_map(heatmap: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return an (H, W) map of real numbers as float32 or float64; raise InputError for anything else."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise InputError(
            f"a heatmap is a non-empty (H, W) array of real numbers, this is {values.dtype} {values.shape}"
        )
    values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
    if np.isinf(values).any():
        raise InputError("the heatmap has infinite values: look at the method or the model that made it")
    return values


def checked_percentile(percentile: float) -> float:
    """Return a percentile above 0 and at most 100; raise ParameterError for another."""
    if not 0 < percentile <= 100:
        raise ParameterError(f"percentile is above 0 and at most 100, not {percentile}")
    return percentile


def checked_limits(limits: Limits, style: Style) -> Limits:
    """Return the limits that count, symmetric for a diverging style; raise ParameterError for no limits."""
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ParameterError(f"limits are two finite values, the lower first, not ({low}, {high})")
    bound = max(abs(low), abs(high))
    return (0.0 - bound, bound) if known_style(style) == "diverging" else (low, high)


def _seen(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    seen: NDArray[np.floating[Any]] = values[~np.isnan(values)]
    return seen


def _at(values: NDArray[np.floating[Any]], percentile: float) -> float:
    return float(values.max() if percentile == 100 else np.percentile(values, percentile))


def _sequential(values: NDArray[np.floating[Any]], percentile: float) -> Limits:
    return min(-_at(-values, percentile), 0.0) + 0.0, max(_at(values, percentile), 0.0)


def _diverging(values: NDArray[np.floating[Any]], percentile: float) -> Limits:
    bound = _at(np.abs(values), percentile)
    return 0.0 - bound, bound


def _grey(values: NDArray[np.floating[Any]], percentile: float) -> Limits:
    return 0.0, _at(np.abs(values), percentile)


_RULES: dict[Style, Callable[[NDArray[np.floating[Any]], float], Limits]] = {
    "sequential": _sequential,
    "diverging": _diverging,
    "grey": _grey,
}


def _share(values: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.floating[Any]]:
    # Clipped and divided before anything is subtracted, so that no value is too large or too small for it.
    unit = max(abs(low), abs(high))
    span = high / unit - low / unit if unit else 0.0
    if not span:
        return values * 0
    shares: NDArray[np.floating[Any]] = (values.clip(low, high) / unit - low / unit) / span
    return shares.clip(0, 1)
