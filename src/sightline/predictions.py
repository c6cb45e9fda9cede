"""What a model says of images: one forward pass for each batch, and no gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from sightline.engine import stacked
from sightline.explanation import Prediction
from sightline.forward import Forward, run_forward
from sightline.models.load import load
from sightline.models.model import Model
from sightline.results import predictions_of
from sightline.samples import Failure, Sample, batches, samples

__all__ = ["forwards", "predict"]

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
