"""Confidence: how much of the model's probability is left when it sees the image through the map.

A map that hides nothing wins the metrics that blend the image with it, so look at ``constant`` beside them. NaN where
nothing of a map is positive.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, scores_of
from sightline.evaluation.metrics.agreement import pearson
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

__all__ = ["as_masks", "top_fraction"]

Share = Annotated[float, Range(0, 1)]

_ROUNDING = 1e-6  # of a probability: an unchanged image in another batch does not rise


def as_masks(maps: Tensor) -> Tensor:
    """Return each map's positive part divided by its largest value (N, *S), from 0 to 1; NaN where there is none."""
    positive = maps.clamp(min=0)
    return positive / positive.flatten(1).amax(1).reshape(-1, *[1] * (maps.ndim - 1))


def top_fraction(maps: Tensor, fraction: float) -> Tensor:
    """Return where maps (N, *S) lie above their n-th largest value after the first, n being ``fraction`` of all.

    Strictly above, so more is left out where values are equal, and nothing is kept of a map that is constant or NaN.
    """
    flat = maps.flatten(1)
    n = min(int(flat.shape[1] * fraction), flat.shape[1] - 1)
    limit = flat.sort(1, descending=True).values[:, n]
    return maps > limit.reshape(-1, *[1] * (maps.ndim - 1))


def _blended(rec: Recording, case: Case, fill: Baseline) -> tuple[Tensor, Tensor]:
    """Return the scores (N,) before and when blended with ``fill`` by the map: once for all metrics of a case."""
    return _through(rec, as_masks(case.maps), fill)


def _topmost(rec: Recording, case: Case, fraction: float, fill: Baseline) -> tuple[Tensor, Tensor]:
    """Return the scores (N,) before and when only the map's top fraction is kept; NaN where that is nothing."""
    kept = top_fraction(case.maps, fraction)
    some = kept.flatten(1).any(1).reshape(-1, *[1] * (kept.ndim - 1))
    return _through(rec, torch.where(some, kept.double(), torch.nan), fill)


def _through(rec: Recording, masks: Tensor, fill: Baseline) -> tuple[Tensor, Tensor]:
    point = covered(rec.x, fill_of(rec, fill), torch.nan_to_num(masks))
    after = next(rec.scores_at([point])).double().cpu()
    undefined = masks.flatten(1).isnan().any(1).cpu()
    return scores_of(rec), torch.where(undefined, torch.nan, after)


def _lost(before: Tensor, after: Tensor) -> Tensor:
    """Return the share of the probability that is lost, 0 where it rises; NaN where there was none to lose."""
    return torch.where(before > 0, (before - after).clamp(min=0) / before, torch.nan)


def _risen(before: Tensor, after: Tensor, margin: float) -> Tensor:
    return torch.where(after.isnan(), torch.nan, (after - before > margin).double())


@metric(family="faithfulness", better="lower", cite="Chattopadhay et al. 2018, arXiv:1710.11063 (average drop)")
def average_drop(case: Case, fill: Baseline = "zero") -> Tensor:
    """The share of the probability that is lost when the image is seen through the map: max(0, p - o) / p.

    The map's positive part, divided by its largest value, blends the input with ``fill``. From 0 to 1.
    """
    return _lost(*case.view("probability").memo(_blended, case=case, fill=fill))


@metric(
    family="faithfulness",
    better="higher",
    cite="Chattopadhay et al. 2018, arXiv:1710.11063 (increase in confidence)",
)
def average_increase(case: Case, fill: Baseline = "zero") -> Tensor:
    """Whether the probability rises when the image is seen through the map: 1 or 0, as in average_drop."""
    return _risen(*case.view("probability").memo(_blended, case=case, fill=fill), _ROUNDING)


@metric(family="faithfulness", better="higher", cite="Zhang et al. 2024, arXiv:2301.07002 (average gain)")
def average_gain(case: Case, fill: Baseline = "zero") -> Tensor:
    """The share of the doubt that is lost when the image is seen through the map: max(0, o - p) / (1 - p).

    As in average_drop; from 0 to 1, undefined where the probability is 1 already.
    """
    before, after = case.view("probability").memo(_blended, case=case, fill=fill)
    return torch.where(before < 1, (after - before).clamp(min=0) / (1 - before), torch.nan)


@metric(family="faithfulness", better="lower", cite="Sattarzadeh et al. 2020, arXiv:2010.00672 (drop rate)")
def top_fraction_drop(case: Case, fraction: Share = 0.15, fill: Baseline = "zero") -> Tensor:
    """The share of the probability that is lost when only the map's top ``fraction`` is kept: max(0, p - o) / p.

    Kept is what lies above the value at that place in the ranking, the rest is ``fill``. From 0 to 1; undefined where
    nothing lies above it, as in a map that is the same everywhere.
    """
    return _lost(*case.view("probability").memo(_topmost, case=case, fraction=fraction, fill=fill))


@metric(family="faithfulness", better="higher", cite="Sattarzadeh et al. 2020, arXiv:2010.00672 (increase rate)")
def top_fraction_increase(case: Case, fraction: Share = 0.15, fill: Baseline = "zero") -> Tensor:
    """Whether the probability rises when only the map's top ``fraction`` is kept: 1 or 0, as in top_fraction_drop."""
    return _risen(*case.view("probability").memo(_topmost, case=case, fraction=fraction, fill=fill), 0.0)


@metric(family="faithfulness", better="higher", cite="Poppi et al. 2021, arXiv:2104.10252 (ADCC)", needs="method")
def adcc(case: Case, fill: Baseline = "zero") -> Tensor:
    """One number of three, their harmonic mean: coherency, 1 - complexity and 1 - average drop, each from 0 to 1.

    Coherency is (r + 1) / 2 for the correlation r with the map of the image seen through the map; complexity is the
    mean of the map divided by its largest value, so large objects cost. The worst of the three decides.
    """
    masks = as_masks(case.maps)
    point = covered(case.rec.x, fill_of(case.rec, fill), torch.nan_to_num(masks))
    again = as_masks(case.explained(x=point)).flatten(1).cpu()
    seen = masks.flatten(1).double().cpu()
    coherency = (pearson(seen, again) + 1) / 2
    return 3 / (1 / coherency + 1 / (1 - seen.mean(1)) + 1 / (1 - average_drop(case, fill)))
