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

__all__ = ["Mnist1d", "Templates", "make_mnist1d", "mnist1d_templates"]

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
_PADDING = (36, 60)  # fewest and most zeros behind a digit
_STRETCHED = len(_DIGITS[0]) + _PADDING[1]
_SMOOTHING = 2.0  # standard deviation, in points, of the filter that correlates the noise
_OFFSET = 1e-8  # keeps a digit's own zeros apart from the padding, which alone gets the correlated noise


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
    rng = RandomState(seed)

    def distorted(digit: Floats) -> Floats:
        stretched = _stretched(rng, digit) * (1 + scale * (rng.rand() - 0.5))
        hidden = _noisy(rng, np.roll(stretched, rng.choice(max_translation)), correlated_noise, noise)
        return _resampled(_sheared(rng, hidden, shear), length)

    labels = np.repeat(digits.y, samples // len(digits.y))
    signals = np.stack([distorted(digits.x[label]) for label in labels])
    order = rng.permutation(len(labels))
    signals, labels = signals[order], labels[order]
    if shuffle_positions:
        signals = signals[:, rng.permutation(length)]
    t = _resampled(_resampled(digits.t, _STRETCHED), length) / signals.std()
    signals = (signals - signals.mean()) / signals.std()
    split = int(len(labels) * train_share)
    return Mnist1d(signals[:split], labels[:split], signals[split:], labels[split:], t, digits)


def _check(samples: int, digits: int, train_share: float, length: int, max_translation: int) -> None:
    if samples < digits:
        raise ParameterError(f"samples={samples}: give at least {digits}, one for each digit.")
    if not 0 <= train_share <= 1:
        raise ParameterError(f"train_share={train_share}: give a share from 0 to 1.")
    if length < 2:
        raise ParameterError(f"length={length}: a signal has at least 2 points.")
    if not 1 <= max_translation <= _STRETCHED:
        raise ParameterError(f"max_translation={max_translation}: give 1 (none) to {_STRETCHED} points.")


def _resampled(signal: Floats, length: int) -> Floats:
    """Return a signal at so many evenly spaced points, linear in between."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)


def _stretched(rng: RandomState, digit: Floats) -> Floats:
    """Return the digit with a random stretch of zeros behind it, brought to the common length (72,)."""
    fewest, most = _PADDING
    zeros = fewest + int(rng.rand() * (most - fewest + 1))
    return _resampled(np.pad(digit + _OFFSET, (0, zeros)), _STRETCHED)


def _noisy(rng: RandomState, signal: Floats, correlated: float, independent: float) -> Floats:
    """Add smooth noise where there is no digit, and independent noise everywhere."""
    smooth = gaussian_filter1d(correlated * rng.randn(len(signal)), _SMOOTHING)
    return np.where(signal != 0, signal, smooth) + independent * rng.randn(len(signal))


def _sheared(rng: RandomState, signal: Floats, scale: float) -> Floats:
    """Take a random slope off the signal."""
    return signal - scale * (rng.rand() - 0.5) * np.linspace(-0.5, 0.5, len(signal))
