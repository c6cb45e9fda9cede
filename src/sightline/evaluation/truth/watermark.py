"""The watermark design: nets that saw a mark never, on one class, or on a random half of every class.

A method finds a shortcut when it puts more on the mark for the net that relies on it than for one that does not. That a
map marks a watermark at all says nothing: it may only be easy to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sightline.demo.scenes import STAR, scene
from sightline.evaluation.truth.tetromino import SIDE, Tetrominoes, tetrominoes, trained
from sightline.models.load import load
from sightline.models.model import Model
from sightline.predictions import predict

__all__ = ["CONDITIONS", "Condition", "Marked", "demo_marked", "detection", "reliance", "tiny_marked"]

Condition = Literal["absent", "independent", "dependent"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
_CORNER = slice(0, 2), slice(SIDE - 2, SIDE)
_LEVEL = 1.0


@dataclass(frozen=True, eq=False)
class Marked:
    """A net, pictures of other classes than ``target`` without and with the mark, and where it is (H, W)."""

    condition: Condition
    model: Model
    plain: Any
    stamped: Any
    mask: np.ndarray
    target: int


def reliance(marked: Marked) -> float:
    """Return by how much the mark alone raises the share of pictures that the net calls ``target``: 0 for none.

    The counterfactual comes first: of a net that does not use the mark nothing can be found.
    """
    before, after = (
        np.mean([p[0]["index"] == marked.target for p in predict(marked.model, given)])
        for given in (marked.plain, marked.stamped)
    )
    return float(after - before)


def detection(using: np.ndarray, ignoring: np.ndarray) -> np.ndarray:
    """Return for each map of the net that uses the mark the share of the other net's that put less on it: (N,).

    The mean is the area under the ROC curve: 0.5 is chance, 1 tells the nets apart every time. NaN stays NaN.

    >>> detection(np.array([0.4, 0.1]), np.array([0.1, 0.2])).tolist()
    [1.0, 0.25]
    """
    others = ignoring[~np.isnan(ignoring)]
    if not len(others):
        return np.full(len(using), np.nan)
    above = (using[:, None] > others).mean(1) + 0.5 * (using[:, None] == others).mean(1)
    return np.where(np.isnan(using), np.nan, above)


def demo_marked(count: int, seed: int = 0) -> list[Marked]:
    """Return the demo's nets with scenes that show no star: honest saw the mark on all classes, cheating on stars."""
    labels = [i % 5 + (i % 5 >= STAR) for i in range(count)]
    plain, stamped = (
        [scene(seed * 1000 + 700 + i, label=c, watermark=m) for i, c in enumerate(labels)] for m in (False, True)
    )
    mask = scene(0, watermark=True).watermark_mask
    nets: dict[Condition, str] = {"independent": "demo/honest", "dependent": "demo/cheating"}
    return [
        Marked(condition, load(name), [s.image for s in plain], [s.image for s in stamped], mask, STAR)
        for condition, name in nets.items()
    ]


def tiny_marked(
    conditions: Sequence[Condition] = CONDITIONS, count: int = 64, seed: int = 0, taught: int = 2000
) -> list[Marked]:
    """Train a tiny net for each condition, on ``taught`` tetrominoes in white noise; the mark is a lighter corner."""
    fresh = tetrominoes("linear", "white", 2 * count, seed + 2)
    plain = fresh.images[fresh.labels == 0]
    mask = np.zeros((SIDE, SIDE), bool)
    mask[_CORNER] = True
    return [
        Marked(
            condition, _taught(condition, seed, taught), plain, _stamped(plain, torch.ones(len(plain)).bool()), mask, 1
        )
        for condition in conditions
    ]


def _taught(condition: Condition, seed: int, count: int) -> Model:
    drawn, unseen = (tetrominoes("linear", "white", n, seed + i) for i, n in enumerate((count, 500)))
    return trained(_with_marks(drawn, condition, seed), unseen, f"tetrominoes, mark {condition}", seed).model


def _with_marks(drawn: Tetrominoes, condition: Condition, seed: int) -> Tetrominoes:
    half = torch.rand(len(drawn), generator=torch.Generator().manual_seed(seed)) < 0.5
    which = {"absent": torch.zeros_like(half), "independent": half, "dependent": drawn.labels == 1}[condition]
    return Tetrominoes(_stamped(drawn.images, which), drawn.labels, drawn.truth)


def _stamped(images: Tensor, which: Tensor) -> Tensor:
    found = images.clone()
    found[(which, slice(None), *_CORNER)] += _LEVEL
    return found
