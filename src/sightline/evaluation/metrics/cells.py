"""Faithfulness by cells: do the cells of a grid get the attribution that covering them costs?"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, scores_of, swept_scores
from sightline.evaluation.metrics.agreement import pearson, spearman
from sightline.evaluation.metrics.covering import covering_cells, grid
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]
Several = Annotated[int, Range(2)]
Share = Annotated[float, Range(0, 1)]


def sums(maps: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of each map (N, *S) over each region, numbered in (*S) or (N, *S): (N, K), in float64."""
    where = labels.to(maps.device).expand(maps.shape).flatten(1)
    zeros = torch.zeros(len(maps), int(labels.max()) + 1, dtype=torch.float64, device=maps.device)
    return zeros.scatter_add(1, where, maps.flatten(1).double()).cpu()


@metric(
    family="faithfulness",
    better="higher",
    cite="Hesse et al. 2024, arXiv:2407.11910 (single deletion, without their fine-tuning)",
)
def single_deletion(case: Case, cells: Count = 4, fill: Baseline = "zero", score: Score = "logit") -> Tensor:
    """The rank correlation of each cell's attribution with the score's drop when that cell alone is covered.

    From -1 to 1; 16 forward passes for an image beside its own, shared by all methods. Occlusion by the same cells has
    1 by construction. Undefined for maps whose cells are all equal.
    """
    drops = covering_cells(case.views, cells, fill).drops[score]
    return spearman(sums(case.maps, grid(case.rec, cells)), drops)


def subset_drops(rec: Recording, cells: int, share: float, samples: int, fill: Baseline) -> tuple[Tensor, Tensor]:
    """Return random subsets of cells (samples, K), and what covering each costs (N, samples)."""
    labels, base = grid(rec, cells), fill_of(rec, fill)
    chosen = drawn_subsets(int(labels.max()) + 1, share, samples, rec.seed)
    points = (covered(rec.x, base, ~subset.to(labels.device)[labels]) for subset in chosen)
    return chosen, scores_of(rec).unsqueeze(1) - swept_scores(rec, points)


def drawn_subsets(cells: int, share: float, samples: int, seed: int) -> Tensor:
    """Draw subsets (samples, cells) of one size, a share of the cells and at least one; True is in."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(samples, cells, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    return ranks < max(1, round(share * cells))


def _over_subsets(
    case: Case, score: Score, cells: int, share: float, samples: int, fill: Baseline
) -> tuple[Tensor, Tensor]:
    """Return each subset's attribution and its drop, both (N, samples); the drops are shared by all methods."""
    view = case.view(score)
    chosen, drops = view.memo(subset_drops, cells=cells, share=share, samples=samples, fill=fill)
    inside = sums(case.maps, grid(view, cells)).unsqueeze(1).masked_fill(~chosen, 0)
    return inside.sum(2), drops


@metric(family="faithfulness", better="higher", cite="Ancona et al. 2018, arXiv:1711.06104 (Sensitivity-n)")
def sensitivity_n(
    case: Case,
    cells: Count = 8,
    share: Share = 0.25,
    samples: Several = 64,
    fill: Baseline = "zero",
    score: Score = "logit",
) -> Tensor:
    """The correlation of what random sets of cells, all of one size, are given with the score's drop without them.

    From -1 to 1; 64 forward passes an image, shared by all methods and with `infidelity`. 1 for the exact attribution
    of a linear model. Undefined for a constant map, and where every set costs the same.
    """
    return pearson(*_over_subsets(case, score, cells, share, samples, fill))


@metric(
    family="faithfulness",
    better="higher",
    cite="Bhatt et al. 2020, arXiv:2005.00631, by ranks as Fel et al. 2021, arXiv:2111.04138",
)
def mu_fidelity(
    case: Case,
    cells: Count = 8,
    share: Share = 0.2,
    samples: Several = 128,
    fill: Baseline = "zero",
    score: Score = "logit",
) -> Tensor:
    """The rank correlation of what random sets of cells are given with the score's drop without them.

    From -1 to 1; 128 forward passes an image, shared by all methods. Cells that do not divide the side are of unequal
    size, which every map of one sign then foretells; 8 a side, unlike the usual 9, fit most inputs. Undefined as
    `sensitivity_n` is.
    """
    return spearman(*_over_subsets(case, score, cells, share, samples, fill))


@metric(family="faithfulness", better="lower", cite="Yeh et al. 2019, arXiv:1901.09392, optimally scaled")
def infidelity(
    case: Case,
    cells: Count = 8,
    share: Share = 0.25,
    samples: Several = 64,
    fill: Baseline = "zero",
    score: Score = "logit",
) -> Tensor:
    """How wrong the map is as a forecast of the score's drop without random sets of cells: 0 exact, 1 as good as none.

    min over b >= 0 of E[(b s - d)²] / E[d²], s what the map gives a set and d the drop: the map's scale does not
    matter, its sign does. What all sets cost alike even a constant map foretells, so compare with it. Undefined for a
    map of zeros, and where no set costs anything.
    """
    given, drops = _over_subsets(case, score, cells, share, samples, fill)
    power, norm, both = ((a * b).mean(1) for a, b in ((drops, drops), (given, given), (given, drops)))
    explained = both.clamp(min=0) ** 2 / norm / power
    return torch.where((power > 0) & (norm > 0), (1 - explained).clamp(min=0), torch.nan)
