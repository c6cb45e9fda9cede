"""The smallest classifier there is, on the smallest pictures: its gradient is its weights, whatever it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from sightline.errors import ParameterError
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model

__all__ = ["SHAPES", "SIDE", "LittleShapes", "linear_model", "little_shapes"]

SIDE = 12
SHAPES: tuple[str, ...] = ("cross", "ring")
Floats: TypeAlias = NDArray[np.floating[Any]]

_RIDGE = 20.0
_TRAINED_ON = 600
_SEED = 7


@dataclass(frozen=True, eq=False)
class LittleShapes:
    """Grey pictures (N, 12, 12), uint8, of a cross (label 0) or a ring (label 1), and their labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def little_shapes(n: int, seed: int = 0) -> LittleShapes:
    """Draw n little pictures (n, 12, 12) of a cross and a ring in turn: light on dark, moved, faint or strong, noisy.

    Raises ParameterError for fewer than one.

    >>> drawn = little_shapes(4)
    >>> drawn.images.shape, [SHAPES[i] for i in drawn.labels]
    ((4, 12, 12), ['cross', 'ring', 'cross', 'ring'])
    """
    if n < 1:
        raise ParameterError(f"little_shapes({n}): wanted at least one picture.")
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % len(SHAPES)
    return LittleShapes(np.stack([_drawn(rng, SHAPES[label]) for label in labels]), labels)


def _drawn(rng: Generator, shape: str) -> NDArray[np.uint8]:
    line = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = line[None, :] + rng.uniform(-0.8, 0.8), line[:, None] + rng.uniform(-0.8, 0.8)
    away = np.abs(np.hypot(x, y) - rng.uniform(3.4, 4.2)) - 0.6 if shape == "ring" else _off_cross(x, y)
    values = rng.uniform(0.1, 0.25) + rng.uniform(0.35, 0.6) * np.clip(0.5 - away, 0, 1)
    noisy = values + rng.normal(0, 0.05, values.shape)
    found: NDArray[np.uint8] = np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
    return found


def _off_cross(x: Floats, y: Floats) -> Floats:
    across, along = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    found: Floats = np.maximum(across - 4, along - 1)
    return found


@lru_cache(maxsize=1)
def linear_model() -> Model:
    """Return the linear classifier of `little_shapes`: score of "ring" w·x + b, of "cross" its negative, x in [0, 1].

    Weights (12, 12) and b are those of ridge regression on 600 pictures to the answers -1 and 1, solved exactly.

    >>> linear_model().labels.names
    ('cross', 'ring')
    """
    drawn = little_shapes(_TRAINED_ON, _SEED)
    weights, bias = _ridge(drawn.images.reshape(len(drawn.labels), -1) / 255, 2.0 * drawn.labels - 1)
    layer = nn.Linear(SIDE * SIDE, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights)[None])
        layer.bias.copy_(torch.tensor([bias]))
    how = Preprocessing(resize=None, crop=None, mean=(0.0,), std=(1.0,))
    return load(nn.Sequential(nn.Flatten(), layer).eval(), labels=SHAPES, preprocessing=how, dims=2)


def _ridge(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Return the weights (D,) and bias that minimise |x w + b - y|² + ridge |w|²."""
    middle, mean = x.mean(0), float(y.mean())
    centred = x - middle
    weights = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(x.shape[1]), centred.T @ (y - mean))
    return weights, mean - float(middle @ weights)
