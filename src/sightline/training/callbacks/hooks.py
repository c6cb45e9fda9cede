"""A `Watch` as a callback of Lightning and of Keras; each library is imported when its callback is asked for."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.errors import ModelError, ParameterError
from sightline.models.keras import import_keras
from sightline.models.model import Model
from sightline.training.callbacks.watching import Watch

__all__ = ["keras_callback", "lightning_callback"]


def lightning_callback(watch: Watch, model: nn.Module | Model | None = None) -> Any:
    """Return a Lightning callback that draws before the training (epoch 0), every n epochs and after the last.

    Explained is the LightningModule by its own ``forward``, or ``model``, a part of it for one. Epochs are counted as
    they are done, so a training that is resumed continues its strips. Of several processes the first one draws.
    Raises ModelError where neither lightning nor pytorch_lightning is installed.
    """
    _check_watch(watch, "lightning_callback")
    try:
        from sightline.training.callbacks.lightning_hook import LightningWatch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("lightning", "pytorch_lightning"):
            raise
        raise ModelError(
            "a Lightning callback needs lightning, which is not installed: pip install 'sightline[train]'."
        ) from None
    return LightningWatch(watch, model)


def keras_callback(watch: Watch, model: Any = None) -> Any:
    """Return a Keras 3 callback that draws before the training (epoch 0), every n epochs and after the last.

    Explained is the model that is fitted, or ``model``, a part of it for one. Epochs are counted as they are done,
    ``initial_epoch`` with them. Raises ModelError where keras is not installed.
    """
    _check_watch(watch, "keras_callback")
    import_keras()
    from sightline.training.callbacks.keras_hook import KerasWatch

    return KerasWatch(watch, model)


def _check_watch(watch: Any, name: str) -> None:
    if not isinstance(watch, Watch):
        raise ParameterError(
            f"{name} was given a {type(watch).__name__}; wanted a watch: {name}(sightline.watch(images, ...))."
        )
