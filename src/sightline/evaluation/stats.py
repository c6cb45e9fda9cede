"""Means with standard errors, and comparisons image by image."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["Paired", "Summary", "compared", "summarised"]

_DRAWN = 9999
_EXACT = 13  # pairs with few enough patterns of signs to try them all


@dataclass(frozen=True)
class Summary:
    """A mean over images with its standard error (NaN for fewer than two), and how many values were undefined."""

    mean: float
    error: float
    count: int
    undefined: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values, null where they do not exist."""
        return {k: _plain(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Paired:
    """A mean difference over the images that both have, its standard error, and p of a two-sided sign-flip test."""

    difference: float
    error: float
    p: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values, null where they do not exist."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def summarised(values: np.ndarray) -> Summary:
    """Return mean and standard error of the values that are defined.

    >>> summarised(np.array([1.0, 3.0, np.nan]))
    Summary(mean=2.0, error=1.0, count=2, undefined=1)
    """
    kept = values[~np.isnan(values)]
    mean = float(kept.mean()) if len(kept) else math.nan
    return Summary(mean, _error(kept), len(kept), len(values) - len(kept))


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def compared(ours: np.ndarray, theirs: np.ndarray) -> Paired:
    """Compare two methods on the same images.

    p is the chance of so large a mean difference if the sign of each image's difference were a coin's toss: all
    patterns for up to 13 images, else 9999 drawn from a seed of its own.

    >>> compared(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0])).difference
    1.0
    """
    both = ~(np.isnan(ours) | np.isnan(theirs))
    gaps = ours[both] - theirs[both]
    if not len(gaps):
        return Paired(math.nan, math.nan, math.nan, 0)
    p = _sign_flip(gaps) if gaps.any() else 1.0
    return Paired(float(gaps.mean()), _error(gaps), p, len(gaps))


def _sign_flip(gaps: np.ndarray) -> float:
    """Return p of the two-sided test that flips the signs of paired differences."""
    sums = np.abs(_signs(len(gaps)) @ gaps)
    extreme = int((sums >= abs(gaps.sum()) * (1 - 1e-12)).sum())
    # Drawn patterns do not hold the one that was seen, so it is counted in.
    return extreme / len(sums) if len(gaps) <= _EXACT else (extreme + 1) / (len(sums) + 1)


@lru_cache(maxsize=4)
def _signs(count: int) -> np.ndarray:
    """Return patterns of signs (P, count), +1 or -1: all of them, or so many drawn."""
    if count <= _EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=count)))
    return np.random.default_rng(0).integers(0, 2, (_DRAWN, count)) * 2.0 - 1.0
