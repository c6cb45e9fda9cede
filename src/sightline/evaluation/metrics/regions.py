"""Faithfulness along a path of regions: cells of a grid, or superpixels, are taken away one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from sightline.errors import ParameterError
from sightline.evaluation.case import Case, Score, ranked, scores_of, swept_scores
from sightline.evaluation.metrics.cells import sums
from sightline.evaluation.metrics.covering import grid
from sightline.evaluation.metrics.curves import area, deletion_ends, kept_curve, shares
from sightline.evaluation.registry import metric
from sightline.masks import segments_of
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]
Part = Annotated[float, Range(0.01, 1)]


def cells_curve(rec: Recording, maps: Tensor, cells: int, parts: Tensor, fill: Baseline) -> Tensor:
    """Return the scores (N, K) with such parts (K,) of the cells covered, those with most of the map (N, *S) first."""
    labels, base = grid(rec, cells), fill_of(rec, fill)
    ranks = ranked(sums(maps, labels), rec.seed).to(labels.device)[:, labels]
    counts = [round(part * (int(labels.max()) + 1)) for part in parts.tolist()]
    after = swept_scores(rec, (covered(rec.x, base, ranks >= count) for count in counts[1:]))
    return torch.cat((scores_of(rec).unsqueeze(1), after), 1)


def mean_drop(curve: Tensor) -> Tensor:
    """Return by how much curves (N, K) lie below their first value, on average over all K: (N,)."""
    return (curve[:, :1] - curve).mean(1)


@metric(family="faithfulness", better="higher", cite="Samek et al. 2017, arXiv:1509.06321 (AOPC, MoRF)")
def aopc(
    case: Case, cells: Count = 14, part: Part = 0.2, steps: Count = 20, fill: Baseline = "mean", score: Score = "logit"
) -> Tensor:
    """The mean drop of the logit while the cells with most of the map are covered, best first: a large drop is good.

    The mean over ``steps`` + 1 images, the untouched one with them, until a ``part`` of a grid of cells is covered. The
    paper covers them with random colours: fill="uniform".
    """
    parts = shares(steps) * part
    curve = cells_curve(case.view(score), case.maps, cells, parts, fill)
    case.drawn("aopc", parts, curve)
    return mean_drop(curve)


@metric(family="faithfulness", better="lower", cite="Samek et al. 2017, arXiv:1509.06321 (AOPC, LeRF)")
def aopc_lerf(
    case: Case, cells: Count = 14, part: Part = 0.2, steps: Count = 20, fill: Baseline = "mean", score: Score = "logit"
) -> Tensor:
    """The mean drop of the logit while the cells with least of the map are covered: a small drop is good.

    As `aopc`, in the other order. Negative where the score rises.
    """
    parts = shares(steps) * part
    curve = cells_curve(case.view(score), -case.maps, cells, parts, fill)
    case.drawn("aopc_lerf", parts, curve)
    return mean_drop(curve)


def superpixels(rec: Recording, segments: int) -> list[Tensor | None]:
    """Return each image's SLIC superpixels (*S), the same for every method; None where there is only one."""
    return [_superpixels(image.unsqueeze(0), segments) for image in rec.x]


def _superpixels(image: Tensor, segments: int) -> Tensor | None:
    try:
        return segments_of("slic", segments, image)[0]
    except ParameterError:  # one segment only, as in noise: there is no order to test
        return None


def _superpixel_places(maps: Tensor, found: list[Tensor | None], seed: int) -> Tensor:
    """Return where each position's superpixel stands in the order of mean attribution, from 0 to below 1: (N, *S)."""
    places = torch.zeros(maps.shape, dtype=torch.float64, device=maps.device)
    for row, labels in enumerate(found):
        if labels is not None:
            sizes = sums(torch.ones_like(maps[:1]), labels)
            ranks = ranked(sums(maps[row : row + 1], labels) / sizes, seed)[0]
            places[row] = (ranks.double() / len(ranks)).to(maps.device)[labels]
    return places


def _left(places: Tensor, steps: int) -> Iterator[Tensor]:
    for share in shares(steps).tolist()[1:-1]:
        yield places >= share


@metric(family="faithfulness", better="higher", cite="Rieger & Hansen 2020, arXiv:2003.08747 (IROF)")
def irof(
    case: Case,
    segments: Count = 100,
    steps: Count = 28,
    fill: Baseline = "mean",
    score: Score = "probability",
) -> Tensor:
    """The area over the score, relative to the image's own, while superpixels become the mean colour, best first.

    1 - AUC of f(x without them) / f(x), by mean attribution: 1 where the score is gone at once, 0 where it stays, below
    where it rises. About ``segments`` superpixels (SLIC; a grid for series), a like share of them at each step.
    Undefined where the image's own score is not above 0, and where SLIC finds only one superpixel.
    """
    view = case.view(score)
    found = view.memo(superpixels, segments=segments)
    places = _superpixel_places(case.maps, found, case.seed)
    curve = kept_curve(view, _left(places, steps), deletion_ends(view, fill), fill)
    defined = (curve[:, 0] > 0) & torch.tensor([labels is not None for labels in found])
    relative = torch.where(defined.unsqueeze(1), curve / curve[:, :1], torch.nan)
    case.drawn("irof", shares(steps), relative)
    return 1 - area(relative)
