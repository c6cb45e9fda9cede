"""Faithfulness of what is marked: does covering it cost more than covering other areas of its size and shape?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, ranked, scores_of, swept_scores
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

__all__ = ["area_drops"]

Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]


@metric(family="faithfulness", better="higher", cite="Sightline 2026 (against moved areas of the same shape)")
def marked_drop(
    case: Case, share: Share = 0.1, draws: Count = 8, fill: Baseline = "blur", score: Score = "probability"
) -> Tensor:
    """The score's drop when the marked share is covered, less that for the same area moved elsewhere: high is good.

    The mean over ``draws`` random moves, the area wrapped around at the borders, so that what is compared has its size
    and shape. 0 is what a random map has on average. ``draws`` + 1 forward passes.
    """
    drops = area_drops(case, share=share, draws=draws, fill=fill, score=score)
    return drops[:, 0] - drops[:, 1:].mean(1)


def area_drops(
    case: Case, share: float = 0.1, draws: int = 8, fill: Baseline = "blur", score: Score = "probability"
) -> Tensor:
    """Return the score's drop (N, 1 + draws) when the marked share is covered, and when it is moved at random."""
    rec = case.view(score)
    ranks = ranked(case.maps, case.seed).reshape(len(rec.x), *rec.x.shape[2:])
    marked = ranks < max(1, round(share * ranks[0].numel()))
    base = fill_of(rec, fill)
    points = (covered(rec.x, base, ~area) for area in (marked, *_moved(marked, rec, draws)))
    return scores_of(rec).unsqueeze(1) - swept_scores(rec, points)


def _moved(marked: Tensor, rec: Recording, draws: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(rec.seed)
    axes = tuple(range(1, marked.ndim))
    for _ in range(draws):
        steps = [int(torch.randint(1, max(2, side), (1,), generator=generator)) for side in marked.shape[1:]]
        yield marked.roll(steps, axes)
