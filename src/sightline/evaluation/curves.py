"""Faithfulness along a path: what happens to the score while positions are taken away or shown, best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, ranked, swept_scores
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
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


def deletion_curve(rec: Recording, ranks: Tensor, steps: int, fill: Baseline) -> Tensor:
    """Return the scores (N, steps + 1) while the positions of the lowest ranks (N, P) are covered first."""
    base = fill_of(rec, fill)
    return swept_scores(rec, (covered(rec.x, base, keep) for keep in _kept(rec, ranks, steps)))


def insertion_curve(rec: Recording, ranks: Tensor, steps: int, fill: Baseline) -> Tensor:
    """Return the scores (N, steps + 1) while the positions of the lowest ranks (N, P) are shown first."""
    base = fill_of(rec, fill)
    return swept_scores(rec, (covered(rec.x, base, ~keep) for keep in _kept(rec, ranks, steps)))


def _kept(rec: Recording, ranks: Tensor, steps: int) -> Iterator[Tensor]:
    shaped = ranks.reshape(len(ranks), *rec.x.shape[2:])
    positions = ranks.shape[1]
    for share in shares(steps).tolist():
        yield shaped >= round(share * positions)


@metric(family="faithfulness", better="lower", cite="Petsiuk et al. 2018, arXiv:1806.07421, sec. 4.2 (deletion)")
def deletion(case: Case, steps: Count = 28, fill: Baseline = "blur", score: Score = "probability") -> Tensor:
    """The area under the score while the marked positions are covered, best first: low is good."""
    curve = deletion_curve(case.view(score), ranked(case.maps, case.seed), steps, fill)
    case.drawn("deletion", shares(steps), curve)
    return area(curve)


@metric(family="faithfulness", better="higher", cite="Petsiuk et al. 2018, arXiv:1806.07421, sec. 4.2 (insertion)")
def insertion(case: Case, steps: Count = 28, fill: Baseline = "blur", score: Score = "probability") -> Tensor:
    """The area under the score while the marked positions are shown on a blurred image, best first: high is good."""
    curve = insertion_curve(case.view(score), ranked(case.maps, case.seed), steps, fill)
    case.drawn("insertion", shares(steps), curve)
    return area(curve)
