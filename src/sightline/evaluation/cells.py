"""Faithfulness by regions: do cells of a grid get the attribution that covering them costs?"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.agreement import spearman
from sightline.evaluation.case import Case, Score
from sightline.evaluation.covering import covering_cells, grid
from sightline.evaluation.registry import metric
from sightline.points import Baseline
from sightline.schema import Range

Count = Annotated[int, Range(1)]


def sums(maps: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of each map (N, *S) over each cell: (N, K), in float64."""
    flat = maps.flatten(1).double()
    zeros = torch.zeros(len(maps), int(labels.max()) + 1, dtype=torch.float64, device=maps.device)
    return zeros.index_add(1, labels.flatten().to(maps.device), flat).cpu()


@metric(
    family="faithfulness",
    better="higher",
    cite="Hesse et al. 2024, arXiv:2407.11910 (single deletion, without their fine-tuning)",
)
def single_deletion(case: Case, cells: Count = 4, fill: Baseline = "zero", score: Score = "logit") -> Tensor:
    """The rank correlation of each cell's attribution with the score's drop when that cell alone is covered.

    From -1 to 1; 16 forward passes for an image beside its own, shared by all methods. Occlusion by the same cells has
    1 by construction.
    """
    drops = covering_cells(case.views, cells, fill).drops[score]
    return spearman(sums(case.maps, grid(case.rec, cells)), drops)
