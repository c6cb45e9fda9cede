"""Methods that cover segments in many combinations: Shapley values, LIME, Kernel SHAP, Sobol and HSIC indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from sightline.coalitions import exact_or_sampled, fair, keep_maps, orders
from sightline.masks import Segments, segments_of
from sightline.methods.perturbation import Fill, covering, nothing_of, stopped
from sightline.methods.registry import Range, method
from sightline.recording import Recording
from sightline.sobol import design as sobol_design
from sightline.sobol import standard_errors, total_indices

__all__ = ["hsic", "kernel_shap", "lime", "shapley_sampling", "sobol"]

Count = Annotated[int, Range(1)]
Several = Annotated[int, Range(2)]
Positive = Annotated[float, Range(1e-6)]
Share = Annotated[float, Range(0, 1)]

_LOOK = 50  # samples between two looks at the standard error


def _sizes(labels: Tensor) -> list[int]:
    return [int(numbers.max()) + 1 for numbers in labels]


def _scores(rec: Recording, labels: Tensor, coalitions: list[Tensor], fill: Fill) -> Tensor:
    """Return the scores (K, N) of the images with only their coalitions' segments kept, in float64."""
    points = map(covering(rec, fill), keep_maps(coalitions, labels))
    return torch.stack([s.double().cpu() for s in rec.scores_at(points)])


Estimate = Callable[[Tensor], list[tuple[Tensor, Tensor]]]


def _estimated(
    rec: Recording,
    labels: Tensor,
    coalitions: list[Tensor],
    fill: Fill,
    estimate: Estimate,
    step: int,
    tolerance: float,
) -> list[tuple[Tensor, Tensor]]:
    """Return ``estimate(scores)`` of the scores (K, N): each image's values and standard errors, both (M,).

    With a tolerance it looks after each ``step`` coalitions, and stops once the errors are that share of the range.
    """
    points = map(covering(rec, fill), keep_maps(coalitions, labels))
    scores: list[Tensor] = []
    for score in rec.scores_at(points):
        scores.append(score.double().cpu())
        looked = tolerance and len(scores) >= 2 * step and not len(scores) % step
        if looked and _small(found := estimate(torch.stack(scores)), tolerance):
            break
    else:
        found = estimate(torch.stack(scores))
    if tolerance:
        rec.note(stopped(len(scores), len(coalitions[0]), _small(found, tolerance)))
    rec.sampled(_painted([error for _, error in found], labels, rec.x).unsqueeze(1))
    return found


def _small(found: list[tuple[Tensor, Tensor]], tolerance: float) -> bool:
    return all(float(error.mean()) <= tolerance * float(value.max() - value.min()) for value, error in found)


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
    tolerance: Share = 0.0,
) -> Tensor:
    """Shapley values of segments: how much each raises the score when it joins, over random orders; they add up.

    ``samples`` orders, each second one the reverse of the one before, of one forward pass for each segment; with
    ``tolerance`` no more than are needed for a standard error of that share of the map's range.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [orders(m, samples, rec.seed) for m in _sizes(labels)]
    widest = max(_sizes(labels)) + 1

    def estimate(scores: Tensor) -> list[tuple[Tensor, Tensor]]:
        done = len(scores) // widest
        gains = (_marginal(o[:done], s) for o, s in zip(drawn, scores.T, strict=True))
        return [(g.mean(0), _error_of_orders(g)) for g in gains]

    joined = [_joined(o, widest - 1) for o in drawn]
    found = _estimated(rec, labels, joined, fill, estimate, 2 * widest, tolerance)
    full, empty = _ends(rec, fill)
    values = [value for value, _ in found]
    _promise(rec, values, full - empty)
    return _painted(values, labels, rec.x)


def _error_of_orders(gains: Tensor) -> Tensor:
    """Return the standard error of the mean over orders (K, M), whose pairs, and not they, are independent."""
    pairs = gains[: len(gains) // 2 * 2].unflatten(0, (-1, 2)).mean(1)
    independent = pairs if len(pairs) > 1 else gains
    error: Tensor = independent.std(0) / len(independent) ** 0.5
    return error


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
    tolerance: Share = 0.0,
) -> Tensor:
    """Shapley values of segments by weighted regression on coalitions, held to add up to f(x) - f(covered).

    Exact where all coalitions are no more than ``samples``. One forward pass for each sample; with ``tolerance`` no
    more than are needed for a standard error of that share of the map's range.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [exact_or_sampled(m, samples, rec.seed) for m in _sizes(labels)]
    full, empty = _ends(rec, fill)

    def estimate(scores: Tensor) -> list[tuple[Tensor, Tensor]]:
        rows = zip(drawn, scores.T, full, empty, strict=True)
        return [
            _constrained(kept[: len(s)].double(), weights[: len(s)], s - e, f - e) for (kept, weights), s, f, e in rows
        ]

    exact = any(not bool((weights == 1).all()) for _, weights in drawn)
    found = _estimated(rec, labels, [kept for kept, _ in drawn], fill, estimate, _LOOK, 0.0 if exact else tolerance)
    values = [value for value, _ in found]
    _promise(rec, values, full - empty)
    return _painted(values, labels, rec.x)


def _constrained(kept: Tensor, weights: Tensor, gains: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Solve min sum_k w_k (z_k phi - g_k)² with sum(phi) = total, by putting the last phi in terms of the others.

    The standard error is that of what was sampled: complementary pairs of weight 1; where all coalitions are there, 0.
    """
    *_, last = kept.unbind(1)
    design, wanted, root = kept[:, :-1] - last.unsqueeze(1), gains - last * total, weights.sqrt()
    inverse = torch.linalg.pinv(design * root.unsqueeze(1))
    found = inverse @ (wanted * root)
    influence = _in_pairs(inverse * (root * (wanted - design @ found))) * bool((weights == 1).all())
    moved = torch.cat((influence, -influence.sum(0, keepdim=True)))
    return torch.cat((found, (total - found.sum()).reshape(1))), moved.norm(dim=1)


def _in_pairs(influence: Tensor) -> Tensor:
    """Add up what the two coalitions of each pair do to a fit: (M, K) to (M, pairs), for they are not independent."""
    even = torch.nn.functional.pad(influence, (0, influence.shape[1] % 2))
    summed: Tensor = even.unflatten(1, (-1, 2)).sum(2)
    return summed


@method(family="perturbation", cite="Ribeiro et al. 2016, arXiv:1602.04938, eq. 1-2 and algorithm 1", reads="scores")
def lime(
    rec: Recording,
    segments: Segments = "slic",
    count: Count = 50,
    samples: Several = 500,
    width: Positive = 0.25,
    ridge: Annotated[float, Range(0)] = 1.0,
    fill: Fill = "mean",
    tolerance: Share = 0.0,
) -> Tensor:
    """A linear model of the score over which segments are kept, fitted near the whole image.

    Weights exp(-d² / width²), d the cosine distance to the whole image; ridge penalty on all but the intercept. With
    ``tolerance`` no more samples than are needed for a standard error of that share of the map's range.
    """
    labels = segments_of(segments, count, rec.x)
    drawn = [fair(m, samples, rec.seed) for m in _sizes(labels)]

    def estimate(scores: Tensor) -> list[tuple[Tensor, Tensor]]:
        rows = zip(drawn, scores.T, strict=True)
        return [_ridge(kept[: len(s)].double(), s, width, ridge) for kept, s in rows]

    found = _estimated(rec, labels, drawn, fill, estimate, _LOOK, tolerance)
    return _painted([value for value, _ in found], labels, rec.x)


def _ridge(kept: Tensor, scores: Tensor, width: float, penalty: float) -> tuple[Tensor, Tensor]:
    """Return the fit's weights (M,) and their standard errors, whatever the residuals' distribution."""
    distance = 1 - kept.mean(1).sqrt()
    weights = torch.exp(-((distance / width) ** 2))
    share = (weights / weights.sum()).unsqueeze(1)
    design = kept - (share * kept).sum(0)
    wanted = scores - (share.squeeze(1) * scores).sum()
    gram = design.T @ (weights.unsqueeze(1) * design) + penalty * torch.eye(design.shape[1], dtype=design.dtype)
    solved = torch.linalg.pinv(gram, hermitian=True) @ (design.T * weights)
    found = solved @ wanted
    return found, (solved * (wanted - design @ found)).norm(dim=1)


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
    rec.sampled(_painted(list(standard_errors(scores, samples).T), labels, rec.x).unsqueeze(1))
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
