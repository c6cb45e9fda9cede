"""Axioms: what a map of any method should fulfil, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from sightline.evaluation.case import Case, Score, scores_of, swept_scores
from sightline.evaluation.metrics.cells import sums
from sightline.evaluation.metrics.covering import grid
from sightline.evaluation.registry import metric
from sightline.methods.perturbation import covered, fill_of
from sightline.models.adapted import Adapted, Named
from sightline.models.model import Model
from sightline.points import Baseline, uniform_images
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]

_ROUNDING = 1e-6  # of the scores' size: what a batch of another size may change


@metric(
    family="axiom", better="lower", cite="Sundararajan et al. 2017, arXiv:1703.01365, sec. 3 (completeness), relative"
)
def completeness_gap(case: Case, baseline: Baseline = "zero", score: Score = "logit") -> Tensor:
    """How far the map's sum is from f(x) - f(baseline), as a share of that: 0 where it adds up.

    |sum a - (f(x) - f(b))| / |f(x) - f(b)|, for methods that promise it, with the baseline that they had. Undefined
    where the two scores are the same.
    """
    view = case.view(score)
    before, after = scores_of(view), view.memo(_scores_of_fill, fill=baseline)
    expected = before - after
    differ = expected.abs() > _ROUNDING * torch.maximum(before.abs(), after.abs())
    total = case.maps.flatten(1).double().sum(1).cpu()
    return torch.where(differ, (total - expected).abs() / expected.abs(), torch.nan)


def _scores_of_fill(rec: Recording, fill: Baseline) -> Tensor:
    return swept_scores(rec, [fill_of(rec, fill)])[:, 0]


@metric(
    family="axiom",
    better="lower",
    cite="Sundararajan et al. 2017, arXiv:1703.01365, sec. 2.1 (sensitivity b, dummy), by cells",
)
def dummy(case: Case, cells: Count = 8, draws: Count = 2) -> Tensor:
    """How much of the map lies on cells that the model does not use: the share of its magnitude, from 0 to 1.

    Not used is a cell of a grid of ``cells`` a side if the score stays as it is, but for rounding, when the cell
    becomes black, white, 0, blurred, and any of ``draws`` random noises, the rest of the image being left alone.
    Undefined where every cell is used, as in most networks, and for a map of zeros. (4 + draws) cells^2 passes, shared
    by all methods.
    """
    unused = case.rec.memo(_unused, cells=cells, draws=draws)
    mass = sums(case.maps.abs(), grid(case.rec, cells))
    share = (mass * unused).sum(1) / mass.sum(1)
    return torch.where(unused.any(1), share, torch.nan)


def _unused(rec: Recording, cells: int, draws: int) -> Tensor:
    """Return which cells (N, K) can be anything without a change of the logit."""
    labels = grid(rec, cells)
    count = int(labels.max()) + 1
    others = list(_others(rec, draws))
    points = (covered(rec.x, other, labels != i) for i in range(count) for other in others)
    before = scores_of(rec).unsqueeze(1)
    scores = swept_scores(rec, points)
    size = torch.maximum(before.abs(), scores.abs().amax(1, keepdim=True))
    alike: Tensor = (scores - before).abs() <= _ROUNDING * size
    return alike.reshape(len(alike), count, -1).all(2)


def _others(rec: Recording, draws: int) -> Iterator[Tensor]:
    """Yield what a cell may become instead (N, C, *S); noise is scaled to the image where pixels are unknown."""
    how = rec.model.preprocessing
    yield torch.zeros_like(rec.x)
    yield fill_of(rec, "blur")
    if how.channels == rec.x.shape[1]:
        yield fill_of(rec, "black")
        yield fill_of(rec, "white")
        yield from uniform_images(rec.x, draws, how, rec.seed)
        return
    generator = torch.Generator().manual_seed(rec.seed)
    size = rec.x.flatten(1).abs().amax(1).reshape(-1, *[1] * (rec.x.ndim - 1))
    for _ in range(2 + draws):
        noise = torch.rand(rec.x.shape[1:], generator=generator, dtype=torch.float64).to(rec.x)
        yield (2 * noise - 1) * size


@metric(
    family="axiom",
    better="lower",
    cite="Kindermans et al. 2017, arXiv:1711.00867 (input invariance)",
    needs="method",
)
def input_shift_invariance(case: Case, shift: float = -1.0) -> Tensor:
    """How much the map changes when the input is shifted by a constant and the model undoes it first: 0 is right.

    |a' - a| / |a| for the input x + ``shift`` and the model f(x - shift), which says the same of it. Methods that
    compare with a fixed baseline change with it. Undefined for a map of zeros.
    """
    shifted = case.explained(model=_undoing(case.model, shift), x=case.rec.x + shift)
    before, after = (maps.flatten(1).double().cpu() for maps in (case.maps, shifted))
    return torch.where(before.any(1), (after - before).norm(dim=1) / before.norm(dim=1), torch.nan)


def _undoing(model: Model, shift: float) -> Model:
    """Return the model with the shift subtracted from its input first; its parts keep their names."""
    inner = model.module
    module = Adapted(
        inner,
        lambda run, x: run(x - shift),
        channels_last=isinstance(inner, Named) and inner.channels_last,
        precisions=inner.precisions if isinstance(inner, Adapted) else None,
    )
    other = replace(model, module=module, _layers={}, _copies={})
    other.__dict__["weights_hash"] = model.weights_hash
    return other
