"""Where a digit of MNIST-1D lies in a signal that does not say so: the stretch and the place that fit best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sightline.demo.mnist1d import PADDING, Placed, mnist1d_templates, padded_digit, resampled
from sightline.errors import InputError, ParameterError

__all__ = ["fit_template"]

Floats: TypeAlias = NDArray[np.float64]

_LENGTHS = (24, 400)  # points of a signal: in shorter ones a digit has too few to be told from a line
_TRANSLATIONS = 48
_TINY = 1e-12


def fit_template(values: NDArray[Any], digit: int) -> Placed:
    """Return where the template of a digit fits a signal (L,) best: the highest correlation with the points under it.

    Every stretch and place that MNIST-1D draws is tried. At each an offset and a slope are fitted first, to the
    signal and to the template, and then the size, by least squares. ``clean`` is the template so placed; where no
    place correlates above zero it lies flat. Raises InputError for a signal that is not (L,) of 24 to 400 finite
    values, ParameterError for a digit that is none of 0 to 9.

    >>> from sightline.demo.mnist1d import mnist1d_signal
    >>> values, drawn = mnist1d_signal(5, seed=1)
    >>> bool((fit_template(values, 5).at & drawn.at).sum() >= 6)
    True
    """
    signal = np.asarray(values, dtype=np.float64)
    fewest, most = _LENGTHS
    if signal.ndim != 1 or not fewest <= len(signal) <= most or not np.isfinite(signal).all():
        raise InputError(f"a signal of shape {signal.shape} came; wanted (L,), {fewest} to {most} finite values.")
    if digit not in mnist1d_templates().y:
        raise ParameterError(f"digit={digit}: give one of 0 to 9.")
    tried = _places(digit, len(signal))
    lines = np.einsum("pkl,l->pk", tried.trends, signal)
    left = (tried.at * signal - np.einsum("pk,pkl->pl", lines, tried.trends)) * tried.at
    along = (left * tried.shapes).sum(1)
    best = int(np.argmax(along / np.sqrt((left**2).sum(1)).clip(_TINY)))
    fitted = lines[best] @ tried.trends[best] + max(float(along[best]), 0.0) * tried.shapes[best]
    return Placed(digit, tried.at[best], np.where(tried.at[best], fitted, np.nan))


@dataclass(frozen=True, eq=False)
class _Places:
    """All places (P) of a digit in a signal: ``at`` (P, L); orthonormal offset and slope, trends (P, 2, L), and the
    template without them, of norm 1, shapes (P, L); all 0 where the digit is not."""

    at: NDArray[np.bool_]
    trends: Floats
    shapes: Floats


@lru_cache(maxsize=20)
def _places(digit: int, length: int) -> _Places:
    parts = [_fitted(at, clean) for at, clean in _placements(digit, length)]
    at, trends, shapes = (np.stack(p) for p in zip(*parts, strict=True))
    return _Places(at, trends, shapes)


def _placements(digit: int, length: int) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    template = mnist1d_templates().x[digit]
    for zeros in range(PADDING[0], PADDING[1] + 1):
        padded = padded_digit(template, zeros)
        for shift in range(_TRANSLATIONS):
            moved = np.roll(padded, shift)
            yield resampled((moved != 0).astype(np.float64), length) >= 0.5, resampled(moved, length)


def _fitted(at: NDArray[np.bool_], clean: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    trend, _ = np.linalg.qr(np.stack([np.ones(at.sum()), np.flatnonzero(at) - np.flatnonzero(at).mean()], 1))
    rest = clean[at] - trend @ (trend.T @ clean[at])
    trends, shape = np.zeros((2, len(at))), np.zeros(len(at))
    trends[:, at], shape[at] = trend.T, rest / max(float(np.linalg.norm(rest)), _TINY)
    return at, trends, shape
