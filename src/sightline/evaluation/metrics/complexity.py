"""Complexity: how much of the image a map needs. A description and not a quality: one hot pixel needs the least.

Each map is measured by itself. NaN where it is zero everywhere.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case
from sightline.evaluation.registry import metric
from sightline.schema import Range

Share = Annotated[float, Range(0, 1)]


def _shares(case: Case) -> Tensor:
    """Return each map's magnitudes as shares of their sum (N, P); NaN where that is 0."""
    values = case.maps.flatten(1).abs().double().cpu()
    scaled = values / values.amax(1, keepdim=True)  # so that no sum overflows, and none vanishes
    return scaled / scaled.sum(1, keepdim=True)


@metric(family="complexity", better="neither", cite="Chalasani et al. 2020, arXiv:1810.06583 (Gini index)")
def gini(case: Case) -> Tensor:
    """How unevenly the magnitudes are spread: 0 where all are equal, towards 1 where one position holds everything."""
    ordered = _shares(case).sort(1).values
    count = ordered.shape[1]
    weights = 2 * torch.arange(1, count + 1, dtype=torch.float64) - count - 1
    return ((weights * ordered).sum(1) / count).clamp(min=0)


@metric(family="complexity", better="neither", cite="Bhatt et al. 2020, arXiv:2005.00631, def. 5 (complexity)")
def entropy(case: Case) -> Tensor:
    """The entropy of the magnitudes, of the most there can be: 1 where all are equal, 0 where one holds everything.

    -sum p log p / log P over P positions, p the magnitudes as shares of their sum. Undefined for a single position.
    """
    shares = _shares(case)
    most = math.log(shares.shape[1]) or math.nan
    terms: Tensor = torch.special.entr(shares)
    return terms.sum(1) / most


@metric(
    family="complexity",
    better="neither",
    cite="Nguyen & Martinez 2020, arXiv:2007.07584, sec. 3.3 (effective complexity; the threshold is relative here)",
)
def effective_complexity(case: Case, threshold: Share = 0.01) -> Tensor:
    """The share of positions whose magnitude is above ``threshold`` of the map's largest."""
    shares = _shares(case)
    above = (shares > threshold * shares.amax(1, keepdim=True)).double().mean(1)
    return torch.where(shares.isnan().any(1), torch.nan, above)
