"""Concept activation vectors: linear classifiers between two sets of activations, and tests of what they give."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draw", "Fitted", "chance_of", "difference_p", "drawn", "fitted", "halves"]

Floats = NDArray[np.float64]
_PENALTY = 0.01


class Draw(NamedTuple):
    """The numbers of the images of a set that one run learns from, and of those that it holds out."""

    learnt: NDArray[np.int64]
    held: NDArray[np.int64]


class Fitted(NamedTuple):
    """A concept's direction (D,) of length 1, and how many held-out images it told right, of how many."""

    direction: Floats
    right: int
    asked: int


def drawn(images: int, size: int, seed: int, run: int) -> Draw:
    """Draw ``size`` of a set's images, one third of them to be held out; the same for every set of that many images."""
    order = np.random.default_rng((seed, run)).permutation(images)[:size]
    return _split(order)


def halves(images: int, size: int, seed: int, run: int) -> tuple[Draw, Draw]:
    """Draw two sets of ``size`` images, none in both, each with one third to be held out."""
    order = np.random.default_rng((seed, run, 1)).permutation(images)
    return _split(order[:size]), _split(order[size : 2 * size])


def _split(order: NDArray[np.int64]) -> Draw:
    held = max(2, len(order) // 3)
    return Draw(order[held:], order[:held])


def fitted(concept: Floats, others: Floats, draw: Draw, draw_others: Draw) -> Fitted:
    """Learn to tell a concept's activations (N, D) from others by logistic regression, and try it on held-out ones."""
    given = np.concatenate((concept[draw.learnt], others[draw_others.learnt]))
    signs = np.repeat([1.0, -1.0], [len(draw.learnt), len(draw_others.learnt)])
    direction, offset = _logistic(given, signs)
    right = int(
        (concept[draw.held] @ direction > offset).sum() + (others[draw_others.held] @ direction <= offset).sum()
    )
    return Fitted(direction, right, len(draw.held) + len(draw_others.held))


def _logistic(x: Floats, signs: Floats) -> tuple[Floats, float]:
    """Fit logistic regression with a ridge penalty; return the direction of length 1 and where along it the border is.

    Solved in the space that the examples span, where the solution lies, in units of their mean distance from the mean.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    centre = x.mean(0)
    scale = float(np.sqrt(((x - centre) ** 2).sum(1).mean())) or 1.0
    left, values, basis = np.linalg.svd((x - centre) / scale, full_matrices=False)
    z = np.column_stack((left * values, np.ones(len(x))))
    shares = np.where(signs > 0, 0.5 / (signs > 0).sum(), 0.5 / (signs < 0).sum())
    penalty = np.append(np.full(len(values), _PENALTY), 0.0)

    def loss(w: Floats) -> tuple[float, Floats]:
        margins = signs * (z @ w)
        slope = -shares * signs * expit(-margins)
        return float(shares @ np.logaddexp(0, -margins) + 0.5 * penalty @ w**2), z.T @ slope + penalty * w

    w = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x
    direction = basis.T @ w[:-1]
    length = float(np.linalg.norm(direction)) or 1.0
    return direction / length, float(centre @ direction / length - w[-1] * scale / length)


def chance_of(fits: list[Fitted]) -> float:
    """Return how likely guessing is to tell as many held-out images right as the runs did, on average, in one run.

    In one, for the runs hold out the same images again and again.
    """
    from scipy.stats import binom

    right = round(float(np.mean([f.right for f in fits])))
    return float(binom.sf(right - 1, fits[0].asked, 0.5))


def difference_p(scores: list[float], others: list[float], least: float) -> float:
    """Return the p-value of Welch's two-sided t-test; a spread counts as at least ``least``, so that it is never 0."""
    from scipy.stats import t

    shares: list[Any] = [max(float(np.var(s, ddof=1)), least**2) / len(s) for s in (scores, others)]
    freedom = sum(shares) ** 2 / sum(v**2 / (len(s) - 1) for v, s in zip(shares, (scores, others), strict=True))
    distance = abs(float(np.mean(scores)) - float(np.mean(others))) / math.sqrt(sum(shares))
    return float(2 * t.sf(distance, freedom))
