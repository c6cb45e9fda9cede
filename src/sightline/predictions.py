"""What a model says of images: one forward pass for each batch, and no gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import nn

from sightline.engine import stacked
from sightline.explanation import Prediction
from sightline.forward import Forward, run_forward
from sightline.models.load import load
from sightline.models.model import Model
from sightline.results import chances_of, predictions_of
from sightline.samples import Failure, Sample, batches, samples

__all__ = ["class_probabilities", "forwards", "predict"]

_BATCH = 8


def predict(model: Model | nn.Module | str, images: Any) -> list[list[Prediction]]:
    """Return each image's best classes, best first, with one forward pass for each batch and no gradient.

    Raises ImageError and ModelError as `explain` does.
    """
    loaded = model if isinstance(model, Model) else load(model)
    return [
        predictions_of(forward, loaded, row)
        for batch, forward in forwards(loaded, images, _raise)
        for row in range(len(batch))
    ]


def class_probabilities(model: Model | nn.Module | str, images: Any) -> np.ndarray:
    """Return the probability of every class for each image: float64 (N, K), rows sum to 1 for a softmax.

    Raises ImageError and ModelError as `explain` does.

    >>> from sightline.demo.scenes import scene
    >>> class_probabilities("demo/honest", [scene(0).image, scene(1).image]).shape
    (2, 6)
    """
    loaded = model if isinstance(model, Model) else load(model)
    found = [
        chances_of(forward, row) for batch, forward in forwards(loaded, images, _raise) for row in range(len(batch))
    ]
    return np.stack([chances.double().numpy() for chances in found])


def forwards(
    model: Model, images: Any, fail: Callable[[Failure], None], batch_size: int = _BATCH
) -> Iterator[tuple[list[Sample], Forward]]:
    """Yield the images in batches, each with its one forward pass without gradient; what is no image goes to ``fail``.

    The pass may hold more rows than there are images, where the model takes batches of one size only.
    """
    for batch in batches(samples(model, images, fail), min(batch_size, model.batch or batch_size)):
        yield batch, run_forward(model.module, stacked(model, batch), grad=False)


def _raise(failure: Failure) -> None:
    raise failure.error
