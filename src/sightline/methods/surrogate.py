"""Methods that cover segments in many combinations: Shapley values, LIME, Kernel SHAP, Sobol and HSIC indices."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.coalitions import exact_or_sampled, fair, keep_maps, orders
from sightline.masks import Segments, segments_of
from sightline.methods.perturbation import Fill, covering, nothing_of
from sightline.methods.registry import Range, method
from sightline.recording import Recording
from sightline.sobol import design as sobol_design
from sightline.sobol import total_indices

__all__ = ["hsic", "kernel_shap", "lime", "shapley_sampling", "sobol"]

Count = Annotated[int, Range(1)]
Several = Annotated[int, Range(2)]
Positive = Annotated[float, Range(1e-6)]


def _sizes(labels: Tensor) -> list[int]:
    return [int(numbers.max()) + 1 for numbers in labels]


def _scores(rec: Recording, labels: Tensor, coalitions: list[Tensor], fill: Fill) -> Tensor:
    """Return the scores (K, N) of the images with only their coalitions' segments kept, in float64."""
    points = map(covering(rec, fill), keep_maps(coalitions, labels))
    return torch.stack([s.double().cpu() for s in rec.scores_at(points)])


def _painted(values: list[Tensor], labels: Tensor, like: Tensor) -> Tensor:
    """Show each segment's value on all of the segment: (N, *S)."""
    return torch.stack([v.to(like.device)[n] for v, n in zip(values, labels, strict=True)]).to(like)


def _ends(rec: Recording, fill: Fill) -> tuple[Tensor, Tensor]:
    """Return the scores (N,) of the images and of what covers them."""
    return rec.scores.double().cpu(), next(rec.scores_at([covering(rec, fill)(nothing_of(rec))])).double().cpu()


def _promise(rec: Recording, values: list[Tensor], expected: Tensor) -> None:
    widest = max(len(v) for v in values)
    rec.promise(torch.stack([torch.nn.functional.pad(v, (0, widest - len(v))) for v in values]), expected)


@method(family="perturbation", cite="Castro et al. 2009, Polynomial calculation of the Shapley value", reads="scores")
def shapley_sampling(
    rec: Recording,
    segments: Segments = "grid",
    count: Count = 16,
    samples: Several = 10,
    fill: Fill = "zero",
) -> Tensor:
    """Shapley values of segments: how much each raises the score when it joins, over random orders; they add up.

    ``samples`` orders, each second one the reverse of the one before, of one forward pass for each segment.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [orders(m, samples, rec.seed) for m in _sizes(labels)]
    scores = _scores(rec, labels, [_joined(o, max(_sizes(labels))) for o in drawn], fill)
    found = [_marginal(o, s) for o, s in zip(drawn, scores.T, strict=True)]
    full, empty = _ends(rec, fill)
    values = [f.mean(0) for f in found]
    _promise(rec, values, full - empty)
    rec.sampled(_painted([f.std(0) / samples**0.5 for f in found], labels, rec.x).unsqueeze(1))
    return _painted(values, labels, rec.x)


def _joined(order: Tensor, widest: int) -> Tensor:
    """Return the coalitions (orders x (widest + 1), M) that grow along each order, from none to all."""
    ranks = order.argsort(1)
    steps = torch.arange(widest + 1).reshape(1, -1, 1)
    return (ranks.unsqueeze(1) < steps).flatten(0, 1)


def _marginal(order: Tensor, scores: Tensor) -> Tensor:
    """Return what each segment added along each order: (orders, M)."""
    gains = scores.reshape(len(order), -1).diff(dim=1)[:, : order.shape[1]]
    return torch.zeros_like(gains).scatter(1, order, gains)


@method(family="perturbation", cite="Lundberg & Lee 2017, arXiv:1705.07874, eq. 8 and theorem 2", reads="scores")
def kernel_shap(
    rec: Recording,
    segments: Segments = "grid",
    count: Count = 16,
    samples: Several = 256,
    fill: Fill = "zero",
) -> Tensor:
    """Shapley values of segments by weighted regression on coalitions, held to add up to f(x) - f(covered).

    Exact where all coalitions are no more than ``samples``. One forward pass for each sample.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [exact_or_sampled(m, samples, rec.seed) for m in _sizes(labels)]
    scores = _scores(rec, labels, [kept for kept, _ in drawn], fill)
    full, empty = _ends(rec, fill)
    rows = zip(drawn, scores.T, full, empty, strict=True)
    values = [_constrained(kept.double(), weights, s - e, f - e) for (kept, weights), s, f, e in rows]
    _promise(rec, values, full - empty)
    return _painted(values, labels, rec.x)


def _constrained(kept: Tensor, weights: Tensor, gains: Tensor, total: Tensor) -> Tensor:
    """Solve min sum_k w_k (z_k phi - g_k)² with sum(phi) = total, by putting the last phi in terms of the others."""
    *_, last = kept.unbind(1)
    design, wanted = kept[:, :-1] - last.unsqueeze(1), gains - last * total
    found = _least_squares(design, weights, wanted)
    return torch.cat((found, (total - found.sum()).reshape(1)))


def _least_squares(design: Tensor, weights: Tensor, wanted: Tensor) -> Tensor:
    root = weights.sqrt()
    found: Tensor = torch.linalg.pinv(design * root.unsqueeze(1)) @ (wanted * root)
    return found


@method(family="perturbation", cite="Ribeiro et al. 2016, arXiv:1602.04938, eq. 1-2 and algorithm 1", reads="scores")
def lime(
    rec: Recording,
    segments: Segments = "slic",
    count: Count = 50,
    samples: Several = 500,
    width: Positive = 0.25,
    ridge: Annotated[float, Range(0)] = 1.0,
    fill: Fill = "mean",
) -> Tensor:
    """A linear model of the score over which segments are kept, fitted near the whole image.

    Weights exp(-d² / width²), d the cosine distance to the whole image; ridge penalty on all but the intercept.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [fair(m, samples, rec.seed) for m in _sizes(labels)]
    scores = _scores(rec, labels, drawn, fill)
    values = [_ridge(kept.double(), s, width, ridge) for kept, s in zip(drawn, scores.T, strict=True)]
    return _painted(values, labels, rec.x)


def _ridge(kept: Tensor, scores: Tensor, width: float, penalty: float) -> Tensor:
    distance = 1 - kept.mean(1).sqrt()
    weights = torch.exp(-((distance / width) ** 2))
    share = (weights / weights.sum()).unsqueeze(1)
    design = kept - (share * kept).sum(0)
    wanted = scores - (share.squeeze(1) * scores).sum()
    gram = design.T @ (weights.unsqueeze(1) * design) + penalty * torch.eye(design.shape[1], dtype=design.dtype)
    found: Tensor = torch.linalg.pinv(gram, hermitian=True) @ (design.T @ (weights * wanted))
    return found


@method(
    family="perturbation",
    cite="Fel et al. 2021, arXiv:2111.04138, eq. 5 (Jansen's estimator of total indices)",
    reads="scores",
    style="sequential",
)
def sobol(rec: Recording, count: Count = 49, samples: Several = 16, fill: Fill = "zero") -> Tensor:
    """The share of the score's variance that each grid cell is part of, when all cells are dimmed at random.

    Total Sobol indices from (cells + 1) x ``samples`` forward passes at quasi-random points.
    """
    labels = segments_of("grid", count, rec.x)
    cells = _sizes(labels)[0]
    levels = sobol_design(cells, samples, rec.seed)
    scores = _scores(rec, labels, [levels] * len(labels), fill)
    return _painted(list(total_indices(scores, samples).T), labels, rec.x)


@method(
    family="perturbation",
    cite="Novello et al. 2022, arXiv:2206.06219, eq. 5-7",
    reads="scores",
    style="sequential",
)
def hsic(rec: Recording, count: Count = 49, samples: Several = 500, fill: Fill = "zero") -> Tensor:
    """How much the score depends on whether each grid cell is covered: the Hilbert-Schmidt independence criterion.

    A Dirac kernel on the cell, a Gaussian one on the score with the scores' spread as its width.
    """
    labels = segments_of("grid", count, rec.x)
    kept = fair(_sizes(labels)[0], samples, rec.seed)
    scores = _scores(rec, labels, [kept] * len(labels), fill)
    return _painted([_dependence(kept, s) for s in scores.T], labels, rec.x)


def _dependence(kept: Tensor, scores: Tensor) -> Tensor:
    spread = scores.std().clamp(min=1e-12)
    outputs = torch.exp(-((scores.unsqueeze(0) - scores.unsqueeze(1)) ** 2) / (2 * spread**2))
    centred = outputs - outputs.mean(0) - outputs.mean(1, keepdim=True) + outputs.mean()
    signs = kept.double() * 2 - 1  # the Dirac kernel is (1 + s s') / 2, and centring takes the 1 away
    return torch.einsum("ai,ab,bi->i", signs, centred, signs) / (2 * (len(scores) - 1) ** 2)
