"""How much of what can be attained a map attains: its order of cells between drawn orders and a greedy search.

After Wang & Wang 2024 (TRACE, ICML), who show that a search over orders of patches comes near the best deletion curve
that any explanation can have; the searched curve gives the metric the end of its scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, ranked, swept_scores
from sightline.evaluation.metrics.cells import sums
from sightline.evaluation.metrics.covering import grid
from sightline.evaluation.metrics.curves import area, deletion_ends, kept_curve, shares
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]
Side = Annotated[int, Range(2)]

# A scale shorter than this share of the score at hand measures noise.
_SHORTEST = 0.01


@dataclass(frozen=True, eq=False)
class Bounds:
    """Areas (N,) under the deletion curves over cells: ``drawn`` the mean of drawn orders, ``greedy`` of the search."""

    drawn: Tensor
    greedy: Tensor


def bounds(rec: Recording, cells: int, orders: int, fill: Baseline) -> Bounds:
    """Return both ends of the scale, the same for every method."""
    labels = grid(rec, cells)
    count = int(labels.max()) + 1
    generator = torch.Generator().manual_seed(rec.seed)
    drawn = [torch.randperm(count, generator=generator).expand(len(rec.x), -1) for _ in range(orders)]
    areas = torch.stack([area(order_curve(rec, labels, ranks, fill)) for ranks in drawn])
    return Bounds(areas.mean(0), area(greedy_curve(rec, labels, fill)))


def order_curve(rec: Recording, labels: Tensor, ranks: Tensor, fill: Baseline) -> Tensor:
    """Return the scores (N, K + 1) while the cells are covered in the order of their ranks (N, K)."""
    where = ranks.to(labels.device)[:, labels]
    kept = (where >= count for count in range(1, ranks.shape[1]))
    return kept_curve(rec, kept, deletion_ends(rec, fill), fill)


def greedy_curve(rec: Recording, labels: Tensor, fill: Baseline) -> Tensor:
    """Return the scores (N, K + 1) while at each step the cell is covered that leaves least of the score."""
    whole, hidden = deletion_ends(rec, fill)
    gone = torch.zeros(len(rec.x), int(labels.max()) + 1, dtype=torch.bool)
    scores = [whole]
    for left in range(gone.shape[1], 1, -1):
        candidates = (~gone).nonzero()[:, 1].reshape(len(gone), left)
        found = swept_scores(rec, _one_more(rec, labels, gone, candidates, fill))
        least = found.min(1)
        scores.append(least.values)
        gone = gone.scatter(1, candidates.gather(1, least.indices.unsqueeze(1)), True)
    return torch.stack([*scores, hidden], 1)


def _one_more(rec: Recording, labels: Tensor, gone: Tensor, candidates: Tensor, fill: Baseline) -> Iterator[Tensor]:
    """Yield the images with the cells that are gone (N, K) covered, and one of the candidates (N, left) more."""
    base = fill_of(rec, fill)
    for chosen in candidates.unbind(1):
        more = gone.scatter(1, chosen.unsqueeze(1), True).to(labels.device)
        yield covered(rec.x, base, ~more[:, labels])


@metric(
    family="faithfulness", better="higher", cite="Wang & Wang 2024, ICML (TRACE; here greedily over cells of a grid)"
)
def attained_deletion(
    case: Case, cells: Side = 4, orders: Count = 8, fill: Baseline = "blur", score: Score = "probability"
) -> Tensor:
    """How much of the deletion that a search attains the map's order of cells attains: 1 all of it, 0 as if drawn.

    (AUC of drawn orders - AUC of the map) / (AUC of drawn orders - AUC of the greedy order), negative for worse than
    drawn. A greedy order is not the best there is, so a map may exceed 1. For 4 cells a side, 135 forward passes for
    the search and 15 for each drawn order, shared by all methods. Undefined where the search gains less than 1 % of the
    image's score.
    """
    view, labels = case.view(score), grid(case.rec, cells)
    ends = view.memo(bounds, cells=cells, orders=orders, fill=fill)
    curve = order_curve(view, labels, ranked(sums(case.maps, labels), case.seed), fill)
    case.drawn("attained_deletion", shares(curve.shape[1] - 1), curve)
    scale = ends.drawn - ends.greedy
    defined = scale > _SHORTEST * curve[:, 0].abs()
    return torch.where(defined, (ends.drawn - area(curve)) / scale, torch.nan)
