"""What a deletion or insertion curve is made of: the picture at each of its steps beside the score that it got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ParameterError
from sightline.evaluation.case import Score, ranked
from sightline.evaluation.measure import opened
from sightline.evaluation.metrics.curves import area, deletion, insertion, kept_at
from sightline.explanation import Explanation
from sightline.geometry import Preprocessing, restore
from sightline.methods.perturbation import covered, fill_of
from sightline.models.load import load
from sightline.models.model import Model
from sightline.points import Baseline

__all__ = ["Direction", "Stepwise", "stepwise"]

Direction = Literal["deletion", "insertion"]

_METRICS = {"deletion": deletion, "insertion": insertion}


@dataclass(frozen=True, eq=False)
class Stepwise:
    """A picture changed step by step along a map: ``scores`` (K + 1,) at the ``shares`` (K + 1,) of positions changed.

    Deletion covers the positions that the map marks most first; insertion shows them first, on a picture that is
    covered all over. ``x`` (C, *S) is the model's input, ``fill`` what covers it, ``ranks`` (1, P) the order.
    """

    direction: Direction
    shares: np.ndarray
    scores: np.ndarray
    x: Tensor
    fill: Tensor
    ranks: Tensor
    preprocessing: Preprocessing

    @property
    def area(self) -> float:
        """The area under the curve: the value of the metric of the direction's name."""
        return float(area(torch.from_numpy(self.scores)[None])[0])

    def kept(self, step: int) -> np.ndarray:
        """Return where the picture itself is seen at a step: bool (*S)."""
        left = kept_at(self.ranks, float(self.shares[step])).reshape(self.x.shape[1:])
        return (left if self.direction == "deletion" else ~left).numpy()

    def input(self, step: int) -> Tensor:
        """Return what the model was given at a step: (C, *S), preprocessed."""
        return covered(self.x[None], self.fill[None], torch.from_numpy(self.kept(step)))[0]

    def picture(self, step: int) -> np.ndarray:
        """Return what the model was given at a step, to be looked at: uint8 (h, w, C), or (h, w) of one channel."""
        return restore(self.input(step), self.preprocessing)


def stepwise(
    model: Model | nn.Module | str,
    e: Explanation,
    direction: Direction = "deletion",
    *,
    steps: int = 28,
    fill: Baseline = "blur",
    score: Score = "probability",
    seed: int = 0,
    tick: Callable[[int], None] | None = None,
) -> Stepwise:
    """Measure a map by deletion or insertion and return the curve with the picture of each step.

    The curve and its area are those of the metric with the same parameters. ``tick`` is called with the number of
    points after each chunk, and may raise to end it. ``steps`` - 1 forward passes, and three more.

    Raises ParameterError for another direction or less than one step, InputError for an explanation that does not hold
    its picture or whose target is no class.

    >>> import sightline
    >>> from sightline.demo.scenes import scene
    >>> found = stepwise("demo/honest", sightline.explain("demo/honest", scene(0).image), steps=4)
    >>> found.picture(2).shape, len(found.scores)
    ((96, 96, 3), 5)
    """
    if direction not in _METRICS or steps < 1:
        raise ParameterError(f"{direction} in {steps} steps: wanted deletion or insertion in at least 1 step.")
    loaded = model if isinstance(model, Model) else load(model)
    with opened(loaded, e, seed=seed, tick=tick) as case:
        rec = case.view(score)
        _METRICS[direction](case, steps=steps, fill=fill, score=score)
        curve = case.curves[direction]
        return Stepwise(
            direction,
            curve.shares.numpy(),
            curve.scores[0].numpy(),
            rec.x[0].cpu(),
            fill_of(rec, fill)[0].detach().cpu(),
            ranked(case.maps[:1], case.seed).cpu(),
            loaded.preprocessing,
        )
