"""From numbers to places on a chart: round ticks, and labels that fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sightline.render.text import compact

__all__ = ["Scale", "Tick", "scale_of"]


@dataclass(frozen=True)
class Tick:
    """A mark of a scale: where it is (0 to 1), and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """A range of values and its ticks."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def at(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; what is beyond the ends is at the end."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    @property
    def digits(self) -> int:
        """The decimals that tell about a hundredth of the range."""
        return min(max(2 - math.ceil(math.log10((self.high - self.low) / 2)), 0), 9)


def scale_of(values: Iterable[float], most_ticks: int = 5) -> Scale:
    """Return a scale that holds all values that exist, with zero where it is near.

    >>> [t.text for t in scale_of([0.12, 0.9]).ticks]
    ['0', '0.2', '0.4', '0.6', '0.8']
    """
    from matplotlib.ticker import MaxNLocator

    low, high = _range([v for v in values if math.isfinite(v)])
    locator: Any = MaxNLocator(nbins=most_ticks, steps=[1, 2, 5, 10], min_n_ticks=2)
    slack = 1e-9 * (high - low)
    places = [float(p) for p in locator.tick_values(low, high) if low - slack <= p <= high + slack]
    texts = _texts(places)
    at = [min(max((p - low) / (high - low), 0.0), 1.0) for p in places]
    return Scale(low, high, tuple(Tick(a, text) for a, text in zip(at, texts, strict=True)))


def _texts(places: list[float]) -> list[str]:
    """Return the ticks' numbers with the decimals that tell them apart, and no more."""
    decimals = max(0, math.ceil(-math.log10(places[1] - places[0]) - 1e-9))
    if decimals > 6 or max(map(abs, places)) >= 1e5:
        return [compact(round(p, 12)) for p in places]
    return [(f"{p:.{decimals}f}" if round(p, decimals) else "0").replace("-", "−") for p in places]


def _range(values: list[float]) -> tuple[float, float]:
    """Return the ends of a scale; values that differ by less than a thousandth are drawn as equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-3 * max(abs(low), abs(high)):
        return (low - abs(low) / 2, high + abs(high) / 2) if low else (-1.0, 1.0)
    if 0 < low <= high - low:
        return 0.0, high
    return (low, 0.0) if low - high <= high < 0 else (low, high)
