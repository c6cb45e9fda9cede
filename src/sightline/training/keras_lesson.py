"""The net as Keras trains it: loss, metrics, optimizer, learning rate and weight decay."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from sightline.models.keras import import_keras
from sightline.training.settings import TrainSettings

__all__ = ["Learner", "OneCycle", "compiled", "decayed"]

keras: Any = import_keras()


class Learner(keras.Model):
    """A net of logits as `fit` runs it, in mixed precision on a GPU; the net itself is not compiled."""

    def __init__(self, net: Any, device: torch.device) -> None:
        super().__init__(name="learner")
        self.net, self.where = net, device.type

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the logits (N, K) of a batch."""
        with self._mixed():
            found = self.net(x, training=training)
        return keras.ops.cast(keras.ops.reshape(found, (-1, found.shape[-1])), "float32")

    def _mixed(self) -> contextlib.AbstractContextManager[Any]:
        if self.where != "cuda":
            return contextlib.nullcontext()
        return torch.autocast("cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)


def compiled(net: Any, asked: TrainSettings, lr: float, classes: int, steps: int, device: torch.device) -> Learner:
    """Return a net ready for `fit`; ``steps`` is how many batches an epoch has.

    The metrics are the plain mean cross-entropy and accuracy, without class weights, smoothing or weight decay.
    """
    learner = Learner(net, device)
    learner.compile(
        optimizer=_optimizer(net, asked, _rate(asked, lr, asked.epochs * steps)),
        loss=_loss(asked, classes),
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
    )
    return learner


def _loss(asked: TrainSettings, classes: int) -> Callable[[Any, Any], Any]:
    def smoothed(labels: Any, logits: Any) -> Any:
        wanted = keras.ops.one_hot(keras.ops.reshape(labels, (-1,)), classes)
        return keras.losses.categorical_crossentropy(
            wanted, logits, from_logits=True, label_smoothing=asked.label_smoothing
        )

    return smoothed


def _rate(asked: TrainSettings, lr: float, total: int) -> Any:
    if asked.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(lr, total)
    return OneCycle(lr, total) if asked.schedule == "one-cycle" else float(lr)


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """From 1/25 of a rate up to it in three tenths of the steps and down to 1/250,000, both along half a cosine."""

    def __init__(self, rate: float, total: int) -> None:
        super().__init__()
        self.rate, self.total = rate, total

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step, from 0."""
        low, top, turn = self.rate / 25, self.rate, max(0.3 * self.total - 1, 1e-9)
        now = float(step)
        if now <= turn:
            found = _eased(low, top, now / turn)
        else:
            found = _eased(top, low / 1e4, min((now - turn) / max(self.total - 1 - turn, 1e-9), 1.0))
        return keras.ops.convert_to_tensor(found, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return what it was made of."""
        return {"rate": self.rate, "total": self.total}


def _eased(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _optimizer(net: Any, asked: TrainSettings, rate: Any) -> Any:
    if asked.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=asked.momentum)
    if asked.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    made = keras.optimizers.AdamW(rate, weight_decay=asked.weight_decay)
    made.exclude_from_weight_decay(var_list=[v for v in net.trainable_variables if not _is_kernel(v)])
    return made


def _is_kernel(variable: Any) -> bool:
    """Say whether weights decay: not biases, which may have two dimensions in attention, and not norms."""
    return len(variable.shape) > 1 and variable.name not in ("bias", "gamma", "beta")


@contextlib.contextmanager
def decayed(net: Any, asked: TrainSettings) -> Iterator[None]:
    """Let weights decay for a while as the settings say, and not by regularisers of the model's own.

    The gradient of Keras' L2(weight_decay / 2) is weight_decay w; AdamW decays by itself.
    """
    own = [(v, v.regularizer) for v in net.trainable_variables]
    wanted = (
        None if asked.optimizer == "adamw" or not asked.weight_decay else keras.regularizers.L2(asked.weight_decay / 2)
    )
    for variable, _ in own:
        variable.regularizer = wanted if _is_kernel(variable) else None
    try:
        yield
    finally:
        for variable, before in own:
            variable.regularizer = before
