"""Total Sobol indices: what share of a score's variance each of several random factors is part of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["design", "standard_errors", "total_indices"]

_ROUNDING = 1e-6  # of the score: what varies by less is noise of the arithmetic


def design(factors: int, samples: int, seed: int) -> Tensor:
    """Return quasi-random levels ((factors + 1) samples, factors) from 0 to 1: a first design, then for each factor
    the same with that factor's levels taken from a second one.

    >>> design(3, 8, 0).shape
    torch.Size([32, 3])
    """
    first, second = _quasi_random(factors, samples, seed)
    return torch.cat((first, *(_swapped(first, second, i) for i in range(factors))))


def total_indices(scores: Tensor, samples: int) -> Tensor:
    """Return Jansen's estimate (factors, N) of the total indices from the scores ((factors + 1) samples, N)."""
    return _terms(scores, samples).mean(1)


def standard_errors(scores: Tensor, samples: int) -> Tensor:
    """Return the standard errors (factors, N) of the indices, as if points were random and the variance known."""
    found: Tensor = _terms(scores, samples).std(1) / samples**0.5
    return found


def _terms(scores: Tensor, samples: int) -> Tensor:
    runs = scores.reshape(-1, samples, scores.shape[-1])
    least = (_ROUNDING * scores.abs().amax(0)) ** 2
    variance = torch.maximum(runs[0].var(0), least).clamp(min=1e-30)
    found: Tensor = (runs[0] - runs[1:]) ** 2 / (2 * variance)
    return found


def _quasi_random(factors: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    from scipy.stats import qmc

    rounded = 1 << (samples - 1).bit_length()
    drawn = qmc.Sobol(2 * factors, seed=np.random.default_rng(seed)).random(rounded)[:samples]
    return torch.as_tensor(drawn[:, :factors]), torch.as_tensor(drawn[:, factors:])


def _swapped(first: Tensor, second: Tensor, factor: int) -> Tensor:
    copy = first.clone()
    copy[:, factor] = second[:, factor]
    return copy
