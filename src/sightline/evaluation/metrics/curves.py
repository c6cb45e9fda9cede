"""Faithfulness along a path: what happens to the score while positions are taken away or shown, best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, ranked, scores_of, swept_scores
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of, nothing_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]


def shares(steps: int) -> Tensor:
    """Return the shares of positions changed: 0, 1/steps, ..., 1."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def area(curve: Tensor) -> Tensor:
    """Return the area under curves (N, steps + 1) over shares 0 to 1, by trapezia: (N,)."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def hidden_scores(rec: Recording, fill: Baseline) -> Tensor:
    """Return the scores (N,) of images that are covered all over: the same for every method."""
    return swept_scores(rec, [covered(rec.x, fill_of(rec, fill), nothing_of(rec))])[:, 0]


def deletion_ends(rec: Recording, fill: Baseline) -> tuple[Tensor, Tensor]:
    """Return the scores (N,) of the images, and of images that are covered all over."""
    return scores_of(rec), rec.memo(hidden_scores, fill=fill)


def deletion_curve(rec: Recording, ranks: Tensor, steps: int, fill: Baseline) -> Tensor:
    """Return the scores (N, steps + 1) while the positions of the lowest ranks (N, P) are covered first."""
    return kept_curve(rec, _kept(rec, ranks, steps), deletion_ends(rec, fill), fill)


def insertion_curve(rec: Recording, ranks: Tensor, steps: int, fill: Baseline) -> Tensor:
    """Return the scores (N, steps + 1) while the positions of the lowest ranks (N, P) are shown first."""
    full, hidden = deletion_ends(rec, fill)
    return kept_curve(rec, (~keep for keep in _kept(rec, ranks, steps)), (hidden, full), fill)


def kept_curve(rec: Recording, kept: Iterable[Tensor], ends: tuple[Tensor, Tensor], fill: Baseline) -> Tensor:
    """Return the scores (N, K + 2) with what is kept (N, *S) at each step left, between two ends that are known."""
    base = fill_of(rec, fill)
    points = [scores.double().cpu() for scores in rec.scores_at(covered(rec.x, base, keep) for keep in kept)]
    return torch.stack([ends[0], *points, ends[1]], 1)


def kept_at(ranks: Tensor, share: float) -> Tensor:
    """Return what is left (N, P) when a share of the positions, those of the lowest ranks (N, P), is covered."""
    return ranks >= round(share * ranks.shape[1])


def _kept(rec: Recording, ranks: Tensor, steps: int) -> Iterator[Tensor]:
    for share in shares(steps).tolist()[1:-1]:
        yield kept_at(ranks, share).reshape(len(ranks), *rec.x.shape[2:])


@metric(family="faithfulness", better="lower", cite="Petsiuk et al. 2018, arXiv:1806.07421, sec. 4.2 (deletion)")
def deletion(case: Case, steps: Count = 28, fill: Baseline = "blur", score: Score = "probability") -> Tensor:
    """The area under the score while the marked positions are covered, best first: low is good.

    The area is over the share of positions, so it does not grow with ``steps``. Equal values go in a drawn order.
    """
    curve = deletion_curve(case.view(score), ranked(case.maps, case.seed), steps, fill)
    case.drawn("deletion", shares(steps), curve)
    return area(curve)


@metric(family="faithfulness", better="higher", cite="Petsiuk et al. 2018, arXiv:1806.07421, sec. 4.2 (insertion)")
def insertion(case: Case, steps: Count = 28, fill: Baseline = "blur", score: Score = "probability") -> Tensor:
    """The area under the score while the marked positions are shown on a blurred image, best first: high is good.

    The curve begins at the score of the blurred image, which every method is given; results say how high that is.
    """
    curve = insertion_curve(case.view(score), ranked(case.maps, case.seed), steps, fill)
    case.drawn("insertion", shares(steps), curve)
    return area(curve)


@metric(family="faithfulness", better="lower", cite="Bach et al. 2015, doi:10.1371/journal.pone.0130140 (flipping)")
def pixel_flipping(case: Case, steps: Count = 28, fill: Baseline = "mean", score: Score = "logit") -> Tensor:
    """The area under the logit while the marked positions become the mean colour, best first: low is good.

    `deletion` with other habits: the score is the model's raw output, which does not saturate, and the fill is flat, so
    that each hole has an edge. Positions are taken away whole, all channels at once.
    """
    curve = deletion_curve(case.view(score), ranked(case.maps, case.seed), steps, fill)
    case.drawn("pixel_flipping", shares(steps), curve)
    return area(curve)
