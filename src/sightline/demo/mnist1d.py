"""MNIST-1D: ten one-dimensional digits, distorted and hidden in noise, made afresh from a seed.

The data set, its ten templates and the order of its distortions are those of S. Greydanus and D. Kobak,
"Scaling down deep learning with MNIST-1D" (arXiv:2011.14439). Its usual form of 4000 and 1000 signals is what
:func:`make_mnist1d` returns without arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from sightline.errors import ParameterError

__all__ = [
    "PADDING",
    "Mnist1d",
    "Placed",
    "Templates",
    "make_mnist1d",
    "mnist1d_signal",
    "mnist1d_templates",
    "padded_digit",
    "resampled",
]

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]

# The digits as their authors drew them: twelve heights from the top of the figure to its foot (arXiv:2011.14439).
_DIGITS = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
PADDING = (36, 60)  # fewest and most zeros behind a digit
STRETCHED = len(_DIGITS[0]) + PADDING[1]
_SMOOTHING = 2.0  # standard deviation, in points, of the filter that correlates the noise
_OFFSET = 1e-8  # keeps a digit's own zeros apart from the padding, which alone gets the correlated noise
_MEAN, _SPREAD = -0.0055075064312711795, 0.15467803420593054  # of the 5000 signals, with which they are standardised


@dataclass(frozen=True, eq=False)
class Templates:
    """The ten clean digits: heights x (10, 12), positions t (12,) and labels y (10,), as drawn in arXiv:2011.14439.

    To plot one as it is usually seen, put x across and t downwards.
    """

    x: Floats
    t: Floats
    y: Labels


@dataclass(frozen=True, eq=False)
class Mnist1d:
    """MNIST-1D: x (4000, 40), y (4000,), x_test (1000, 40), y_test (1000,), positions t (40,) and the templates.

    >>> data = make_mnist1d(samples=20)
    >>> data.x.shape, data.x_test.shape, data.t.shape, data.templates.x.shape
    ((16, 40), (4, 40), (40,), (10, 12))
    """

    x: Floats
    y: Labels
    x_test: Floats
    y_test: Labels
    t: Floats
    templates: Templates


@dataclass(frozen=True, eq=False)
class Placed:
    """A digit in a signal (L,): ``at`` (L,) is where it lies, ``clean`` (L,) how it goes there, NaN elsewhere."""

    digit: int
    at: Bools
    clean: Floats


@dataclass(frozen=True)
class _How:
    """The strengths of the distortions; as published unless they are given."""

    length: int = 40
    scale: float = 0.4
    max_translation: int = 48
    correlated_noise: float = 0.25
    noise: float = 0.02
    shear: float = 0.75


def mnist1d_templates() -> Templates:
    """Return the ten clean digits, x (10, 12), each standardised and starting at 0 (arXiv:2011.14439).

    >>> mnist1d_templates().y.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    x = np.array(_DIGITS, dtype=np.float64)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return Templates((x - x[:, :1]) / 6, np.linspace(-5, 5, x.shape[1]) / 6, np.arange(len(x), dtype=np.int64))


def make_mnist1d(
    *,
    samples: int = 5000,
    train_share: float = 0.8,
    length: int = 40,
    scale: float = 0.4,
    max_translation: int = 48,
    correlated_noise: float = 0.25,
    noise: float = 0.02,
    shear: float = 0.75,
    shuffle_positions: bool = False,
    seed: int = 42,
) -> Mnist1d:
    """Make MNIST-1D, x (4000, 40) and x_test (1000, 40) float64, as published with arXiv:2011.14439.

    The draws are those of numpy's legacy stream, taken from a stream of its own: ``np.random`` is left alone.

    >>> make_mnist1d(samples=20).y.tolist() == make_mnist1d(samples=20).y.tolist()
    True
    """
    digits = mnist1d_templates()
    _check(samples, len(digits.y), train_share, length, max_translation)
    rng, how = RandomState(seed), _How(length, scale, max_translation, correlated_noise, noise, shear)
    labels = np.repeat(digits.y, samples // len(digits.y))
    signals = np.stack([_distorted(rng, digits.x[label], how)[0] for label in labels])
    order = rng.permutation(len(labels))
    signals, labels = signals[order], labels[order]
    if shuffle_positions:
        signals = signals[:, rng.permutation(length)]
    t = resampled(resampled(digits.t, STRETCHED), length) / signals.std()
    signals = (signals - signals.mean()) / signals.std()
    split = int(len(labels) * train_share)
    return Mnist1d(signals[:split], labels[:split], signals[split:], labels[split:], t, digits)


def mnist1d_signal(digit: int, seed: int) -> tuple[Floats, Placed]:
    """Draw one signal (40,) of a digit, standardised as the published ones are, and where the digit lies in it.

    It is none of the published signals. One seed hides every digit in the same way: same place, stretch and noise.
    Raises ParameterError for a digit that is none of 0 to 9.

    >>> values, placed = mnist1d_signal(7, seed=0)
    >>> values.shape, int(placed.at.sum())
    ((40,), 7)
    """
    digits = mnist1d_templates()
    if digit not in digits.y:
        raise ParameterError(f"digit={digit}: give one of 0 to {len(digits.y) - 1}.")
    # A list seeds another stream than the bare number, whose first draws are those of the published data.
    noisy, clean, at = _distorted(RandomState([seed]), digits.x[digit], _How())
    return (noisy - _MEAN) / _SPREAD, Placed(digit, at, np.where(at, (clean - _MEAN) / _SPREAD, np.nan))


def _distorted(rng: RandomState, digit: Floats, how: _How) -> tuple[Floats, Floats, Bools]:
    """Return a digit as a signal, the same without noise, and where the digit is, each (length,)."""
    stretched = _stretched(rng, digit) * (1 + how.scale * (rng.rand() - 0.5))
    moved = np.roll(stretched, rng.choice(how.max_translation))
    noisy = _noisy(rng, moved, how.correlated_noise, how.noise)
    slope = how.shear * (rng.rand() - 0.5) * np.linspace(-0.5, 0.5, len(moved))
    at = resampled((moved != 0).astype(np.float64), how.length) >= 0.5
    return resampled(noisy - slope, how.length), resampled(moved - slope, how.length), at


def _check(samples: int, digits: int, train_share: float, length: int, max_translation: int) -> None:
    if samples < digits:
        raise ParameterError(f"samples={samples}: give at least {digits}, one for each digit.")
    if not 0 <= train_share <= 1:
        raise ParameterError(f"train_share={train_share}: give a share from 0 to 1.")
    if length < 2:
        raise ParameterError(f"length={length}: a signal has at least 2 points.")
    if not 1 <= max_translation <= STRETCHED:
        raise ParameterError(f"max_translation={max_translation}: give 1 (none) to {STRETCHED} points.")


def padded_digit(digit: Floats, zeros: int) -> Floats:
    """Return a digit (12,) with so many zeros behind it, brought to the common length (72,); only they are 0."""
    return resampled(np.pad(digit + _OFFSET, (0, zeros)), STRETCHED)


def resampled(signal: Floats, length: int) -> Floats:
    """Return a signal at so many evenly spaced points, linear in between."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)


def _stretched(rng: RandomState, digit: Floats) -> Floats:
    """Return the digit with a random stretch of zeros behind it, brought to the common length (72,)."""
    fewest, most = PADDING
    return padded_digit(digit, fewest + int(rng.rand() * (most - fewest + 1)))


def _noisy(rng: RandomState, signal: Floats, correlated: float, independent: float) -> Floats:
    """Add smooth noise where there is no digit, and independent noise everywhere."""
    smooth = gaussian_filter1d(correlated * rng.randn(len(signal)), _SMOOTHING)
    return np.where(signal != 0, signal, smooth) + independent * rng.randn(len(signal))
