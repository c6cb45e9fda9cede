"""What covering each cell of a grid does to an image's answer: one sweep for all methods and all that asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.evaluation.case import Score, scores_of
from sightline.goals import Goal, class_scores, lead_goal
from sightline.masks import segments_of
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording

__all__ = ["Covering", "covering_cells", "grid"]


@dataclass(frozen=True, eq=False)
class Covering:
    """How much each score drops (N, K) when a cell alone is covered, and whether the answer becomes another (N, K).

    ``flips`` is None where the target is no class.
    """

    drops: Mapping[Score, Tensor]
    flips: Tensor | None


def grid(rec: Recording, cells: int) -> Tensor:
    """Number the cells (*S) of a grid of ``cells`` a side."""
    return segments_of("grid", cells ** (rec.x.ndim - 2), rec.x[:1])[0]


def covering_cells(views: Mapping[Score, Recording], cells: int, fill: Baseline) -> Covering:
    """Cover each cell of each image once: ``cells`` to the power of the dimensions forward passes for an image."""
    rec = views["logit"]
    if isinstance(fill, Tensor):
        return _swept(rec, _goals(views), cells, fill)
    return rec.memo(_memoised, goals=_goals(views), cells=cells, fill=fill)


def _goals(views: Mapping[Score, Recording]) -> tuple[tuple[Score, Goal], ...]:
    return tuple((score, view.goal) for score, view in views.items())


def _memoised(rec: Recording, *, goals: tuple[tuple[Score, Goal], ...], cells: int, fill: Baseline) -> Covering:
    return _swept(rec, goals, cells, fill)


def _swept(rec: Recording, goals: tuple[tuple[Score, Goal], ...], cells: int, fill: Baseline) -> Covering:
    labels, base = grid(rec, cells), fill_of(rec, fill)
    points = (covered(rec.x, base, labels != i) for i in range(int(labels.max()) + 1))
    lead = _lead(rec)
    found: list[list[Tensor]] = []
    for child, size in rec.children(points, grad=False):
        forward, rows = child.shared.forward, child.rows
        read = [goal.score(forward, rows).double().cpu() for _, goal in goals]
        read.append(read[0] if lead is None else lead.score(forward, rows).double().cpu())
        found += [[part[i] for part in _by_point(read, size)] for i in range(size)]
    scores = [torch.stack(column, 1) for column in zip(*found, strict=True)]
    own = {score: scores_of(rec.for_target(goal)).unsqueeze(1) for score, goal in goals}
    drops = {score: own[score] - after for (score, _), after in zip(goals, scores, strict=False)}
    flips = None if lead is None else (scores[-1] <= 0) & (scores_of(rec.for_target(lead)) > 0).unsqueeze(1)
    return Covering(drops, flips)


def _by_point(read: list[Tensor], size: int) -> list[Tensor]:
    return [values.unflatten(0, (size, -1)) for values in read]


def _lead(rec: Recording) -> Goal | None:
    """Return by how much the target's class leads the others, where the target is a class among others."""
    if rec.goal.classes is None or class_scores(rec.shared.forward, "logit").shape[1] < 2:
        return None
    return lead_goal(rec.goal.classes)
