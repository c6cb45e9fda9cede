"""Coalitions of segments: which are kept and which are covered, drawn so that no image's depend on another's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sightline.errors import ParameterError

__all__ = ["MOST_SEGMENTS", "exact_or_sampled", "fair", "keep_maps", "kernel_sizes", "orders"]

MOST_SEGMENTS = 1024


def keep_maps(coalitions: list[Tensor], labels: Tensor) -> Iterator[Tensor]:
    """Yield maps (N, *S) that keep what each image's coalitions (K, M of the image) keep."""
    for rows in zip(*coalitions, strict=True):
        yield torch.stack([row.to(labels.device)[numbers] for row, numbers in zip(rows, labels, strict=True)])


def _uniform(samples: int, segments: int, seed: int) -> Tensor:
    """Draw (samples, segments) uniforms, of which fewer segments have the first."""
    if segments > MOST_SEGMENTS:
        raise ParameterError(f"{segments} segments came; wanted at most {MOST_SEGMENTS}: give count= or larger ones.")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((samples, MOST_SEGMENTS + 1), generator=generator, dtype=torch.float64)[:, : segments + 1]


def fair(segments: int, samples: int, seed: int) -> Tensor:
    """Draw coalitions (samples, segments) that keep each segment with probability 1/2; the first keeps all."""
    kept = _uniform(samples, segments, seed)[:, 1:] < 0.5
    kept[0] = True
    return kept


def orders(segments: int, samples: int, seed: int) -> Tensor:
    """Draw orders (samples, segments) of the segments, each second one the reverse of the one before."""
    drawn = _uniform((samples + 1) // 2, segments, seed)[:, 1:].argsort(1)
    return torch.stack((drawn, drawn.flip(1)), 1).flatten(0, 1)[:samples]


def kernel_sizes(segments: int) -> Tensor:
    """Return how probable each size 1 to M - 1 of a coalition is under the Shapley kernel: (M-1) / (k (M-k))."""
    sizes = torch.arange(1, segments, dtype=torch.float64)
    weights = 1 / (sizes * (segments - sizes))
    return weights / weights.sum()


def exact_or_sampled(segments: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return coalitions (samples, M) and their weights (samples,) for Kernel SHAP: all of them where they are few.

    Beyond all of them weights are 0; sampled ones come in complementary pairs, drawn by the kernel, of equal weight.
    """
    if segments < 2:
        return torch.ones(samples, segments, dtype=torch.bool), torch.zeros(samples, dtype=torch.float64)
    return (
        _all(segments, samples) if segments < 32 and 2**segments - 2 <= samples else _sampled(segments, samples, seed)
    )


def _all(segments: int, samples: int) -> tuple[Tensor, Tensor]:
    every = torch.tensor(list(itertools.product((False, True), repeat=segments))[1:-1])
    sizes = every.sum(1)
    weights = kernel_sizes(segments)[sizes - 1] / torch.tensor([math.comb(segments, int(k)) for k in sizes])
    rest = samples - len(every)
    kept = torch.cat((every, torch.ones(rest, segments, dtype=torch.bool)))
    return kept, torch.cat((weights, torch.zeros(rest, dtype=torch.float64)))


def _sampled(segments: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = _uniform((samples + 1) // 2, segments, seed)
    bounds = kernel_sizes(segments).cumsum(0)
    sizes = 1 + torch.searchsorted(bounds[:-1], drawn[:, 0].contiguous())
    ranks = drawn[:, 1:].argsort(1).argsort(1)
    kept = ranks < sizes.unsqueeze(1)
    return torch.stack((kept, ~kept), 1).flatten(0, 1)[:samples], torch.ones(samples, dtype=torch.float64)
