"""Mosaics: images of different classes that a model is sure of, side by side, so that each map has a right place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.forward import run_forward
from sightline.goals import class_scores, probabilities
from sightline.models.model import Model
from sightline.plan import Plan
from sightline.samples import Failure, Sample, batches, samples

__all__ = ["Measured", "Mosaic", "Sure", "Trial", "cell_labels", "drawn", "shares"]


@dataclass(frozen=True)
class Sure:
    """What the model says of one image: where it is among those given, the class, and its probability."""

    number: int
    label: int
    probability: float


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The images (n·n, C, H, W) of one mosaic in reading order and their classes; ``number`` ``of`` so many, from 1."""

    number: int
    of: int
    x: Tensor
    classes: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def cells(self) -> int:
        """How many cells a side has."""
        return math.isqrt(len(self.x))

    @property
    def whole(self) -> Tensor:
        """The mosaic as one input (1, C, n·H, n·W)."""
        rows = self.x.unflatten(0, (self.cells, self.cells))
        return torch.cat([torch.cat(list(row), -1) for row in rows], -2).unsqueeze(0)


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of one mosaic: the cells that were measured, each method's value for each (NaN: none), refusals."""

    mosaic: Mosaic
    cells: Sequence[int]
    values: Mapping[str, Tensor]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> list[tuple[str, str]]:
        """What each value is called, and the class that was explained."""
        where = [f"mosaic {self.mosaic.number}, cell {cell + 1}" for cell in self.cells]
        return [(name, self.mosaic.labels[cell]) for name, cell in zip(where, self.cells, strict=True)]


@dataclass(frozen=True, eq=False)
class Trial:
    """What a metric over mosaics looks at: the plan of the explanations, the images, and which mosaics are done."""

    plan: Plan
    images: Any
    fail: Callable[[Failure], None] = lambda failure: None
    done: AbstractSet[int] = frozenset()
    memo: dict[str, list[Sure]] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model that is explained."""
        return self.plan.model

    def mosaics(self, cells: int, confidence: float, most: int) -> Iterator[Mosaic]:
        """Yield up to ``most`` mosaics of ``cells`` a side, but for those that are done; none shares an image.

        Raises RefusedError where there is not one.
        """
        if self.model.input_dims != 2:
            raise RefusedError("mosaics are made of pictures; for series and volumes use single_deletion.")
        sure = [s for s in self.said() if s.probability >= confidence]
        found = drawn(sure, cells, self.plan.options.seed)[:most]
        if not found:
            raise RefusedError(_too_few(sure, len(self.said()), cells, confidence))
        for number, chosen in enumerate(found, 1):
            if number not in self.done:
                yield self._mosaic(number, len(found), chosen)

    def said(self) -> list[Sure]:
        """Return what the model says of each image that can be read."""
        if "sure" not in self.memo:
            found = batches(samples(self.model, self.images, self.fail), self.model.batch or 8)
            self.memo["sure"] = [said for batch in found for said in _predicted(self.model, batch)]
        return self.memo["sure"]

    def _mosaic(self, number: int, of: int, chosen: Sequence[Sure]) -> Mosaic:
        rows = [s.number for s in chosen]
        given = self.images[rows] if hasattr(self.images, "shape") else [self.images[i] for i in rows]
        found = [s.x for s in samples(self.model, given, _raise)]
        if len({tuple(x.shape) for x in found}) > 1:
            raise RefusedError(
                "the images have different sizes, which do not fit into one mosaic; have them made alike: "
                "--preprocess resize=256,crop=224."
            )
        labels = tuple(self.model.labels.name(s.label) for s in chosen)
        return Mosaic(number, of, torch.stack(found), tuple(s.label for s in chosen), labels)


def _raise(failure: Failure) -> None:
    raise failure.error


def _predicted(model: Model, batch: list[Sample]) -> list[Sure]:
    filled = batch + [batch[-1]] * ((model.batch or 0) - len(batch))
    forward = run_forward(model.module, torch.stack([s.x for s in filled]), grad=False)
    chances = probabilities(forward)
    chances = torch.cat((1 - chances, chances), 1) if chances.shape[1] == 1 else chances
    best = class_scores(forward, "logit").argmax(1)
    return [Sure(sample.number, int(best[row]), float(chances[row, best[row]])) for row, sample in enumerate(batch)]


def drawn(sure: Sequence[Sure], cells: int, seed: int) -> list[list[Sure]]:
    """Draw mosaics of cells² images of different classes, until no more can be made; no image is used twice.

    The classes with the most images left come first, so that as many mosaics as possible are made.

    >>> [[s.number for s in m] for m in drawn([Sure(i, i % 4, 1.0) for i in range(5)], 2, seed=0)]
    [[0, 1, 3, 2]]
    """
    rng = np.random.default_rng(seed)
    left: dict[int, list[Sure]] = {}
    for i in rng.permutation(len(sure)):
        left.setdefault(sure[i].label, []).append(sure[i])
    found = []
    while len(left) >= cells**2:
        fullest = sorted(left, key=lambda label: -len(left[label]))[: cells**2]
        found.append([left[label].pop() for label in rng.permutation(fullest).tolist()])
        left = {label: images for label, images in left.items() if images}
    return found


def _too_few(sure: Sequence[Sure], images: int, cells: int, confidence: float) -> str:
    classes = len({s.label for s in sure})
    return (
        f"a mosaic of {cells}x{cells} wants {cells**2} images of different classes that the model is sure of "
        f"(p >= {confidence:g}); of {images} images there are {len(sure)}, of {classes} classes: give more images, "
        "or a lower confidence (--set METRIC.confidence=0.5)."
    )


def cell_labels(size: Sequence[int], cells: int) -> Tensor:
    """Number the positions (H, W) by the cell of a grid in which their middles lie, in reading order.

    >>> cell_labels((2, 4), 2).tolist()
    [[0, 0, 1, 1], [2, 2, 3, 3]]
    """
    row, column = ((2 * torch.arange(side) + 1) * cells // (2 * side) for side in size)
    return row[:, None] * cells + column


def shares(maps: Tensor, cells: int, wanted: Sequence[int]) -> Tensor:
    """Return each map's (N, H, W) positive mass in its ``wanted`` cell (N of them) as a share of all, in float64.

    0 where a map has no positive mass: it points nowhere.
    """
    mass = maps.double().clamp(min=0).cpu()
    inside = cell_labels(maps.shape[1:], cells) == torch.tensor(list(wanted))[:, None, None]
    total, within = mass.flatten(1).sum(1), (mass * inside).flatten(1).sum(1)
    return torch.where(total > 0, within / total.clamp(min=1e-300), 0.0)
