"""How to train: every choice in one place, checked before anything is read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sightline.errors import ParameterError, suggest
from sightline.training.augment import read_augmentation

__all__ = ["ClassWeights", "Optimizer", "Schedule", "TrainSettings"]

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["plateau", "cosine", "one-cycle", "constant"]
ClassWeights = Literal["auto", "balanced", "none"]


@dataclass(frozen=True)
class TrainSettings:
    """What `train` does with a model and a data set.

    ``model`` is what `load` takes; ``weights`` as there. ``freeze`` is "features" (all but the last block), "none", a
    number of layers with weights from the input on (which is kept as a text), or "auto": features where the weights are
    trained, none where they are random. ``epochs`` is the most, ``patience`` how many may pass without a better
    validation accuracy (0: no end to it). ``lr`` None is 0.001, or 0.0001 where trained weights are changed from the
    input on. ``weight_decay`` is of weights alone, not of biases and norms: the gradient of weight_decay / 2 |w|^2,
    which AdamW takes apart from the loss. ``image_size`` is the side of the input in pixels, None the model's own.
    ``augment`` is read by `read_augmentation`. ``steps_per_epoch`` ends an epoch after so many batches.
    ``class_weights`` "auto" balances the loss where one class has over 1.5 times the images of another. ``val_share``
    is held back where a folder is not split yet.
    ``restore_best`` keeps the weights of the best epoch, not of the last.

    >>> TrainSettings(epochs=5).patience
    6
    """

    model: str | None = None
    weights: str | None = "default"
    freeze: str | int = "auto"
    epochs: int = 100
    patience: int = 6
    optimizer: Optimizer = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = "plateau"
    batch_size: int = 32
    steps_per_epoch: int | None = None
    image_size: int | None = None
    augment: str = "none"
    class_weights: ClassWeights = "auto"
    label_smoothing: float = 0.0
    val_share: float = 0.2
    restore_best: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("model", self.model), ("weights", self.weights)):
            object.__setattr__(self, name, _path(name, value))
        object.__setattr__(self, "freeze", _freeze(self.freeze))
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ParameterError(f"{name}={value!r}: wanted {', '.join(known)}.{suggest(str(value), known)}")
        _check_numbers(self)
        if not isinstance(self.restore_best, bool):
            raise ParameterError(f"restore_best={self.restore_best!r}: wanted true or false.")
        if not isinstance(self.augment, str):
            raise ParameterError(f"augment={self.augment!r}: wanted a text, as 'all', 'none' or 'hflip,rotate=15'.")
        read_augmentation(self.augment)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrainSettings:
        """Read what `to_dict` wrote; raise ParameterError for a name that is none and a value that does not fit."""
        known = [f.name for f in fields(TrainSettings)]
        for name in data:
            if name not in known:
                raise ParameterError(f"settings: {name!r} is unknown; wanted {', '.join(known)}.{suggest(name, known)}")
        return TrainSettings(**data)


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "class_weights": get_args(ClassWeights),
}
_LEAST = {"epochs": 1, "patience": 0, "batch_size": 1, "steps_per_epoch": 1, "image_size": 8, "seed": 0}
_MOST = {"image_size": 1 << 14, "seed": (1 << 63) - 1}
_OPTIONAL = ("steps_per_epoch", "image_size", "lr")
_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "lr": (lambda v: 0 < v < math.inf, "a finite number above 0"),
    "momentum": (lambda v: 0 <= v < 1, "0 to less than 1"),
    "weight_decay": (lambda v: 0 <= v < math.inf, "a finite number from 0 on"),
    "label_smoothing": (lambda v: 0 <= v < 1, "0 to less than 1"),
    "val_share": (lambda v: 0 < v < 1, "a share between 0 and 1"),
}


def _check_numbers(asked: TrainSettings) -> None:
    for name, least in _LEAST.items():
        value, most = getattr(asked, name), _MOST.get(name)
        if value is None and name in _OPTIONAL:
            continue
        if type(value) is not int or value < least or (most is not None and value > most):
            wanted = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ParameterError(f"{name}={value!r}: wanted a whole number, {wanted}.")
    for name, (fits, wanted) in _RANGES.items():
        value = getattr(asked, name)
        if value is None and name in _OPTIONAL:
            continue
        if type(value) not in (int, float) or not fits(value):
            raise ParameterError(f"{name}={value!r}: wanted {wanted}.")


def _path(name: str, value: Any) -> str | None:
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if found is not None and not isinstance(found, str):
        raise ParameterError(f"{name}={value!r}: wanted a name or a file.")
    return found


def _freeze(said: Any) -> str:
    """Return what was said as a text; 0 layers are none."""
    text = str(said) if type(said) is int else said
    if isinstance(text, str) and (text in _FROZEN or re.fullmatch("[0-9]{1,9}", text)):
        return "none" if text.strip("0") == "" else text
    raise ParameterError(
        f"freeze={said!r}: wanted features, none, auto, or how many layers with weights stay as they are."
        f"{suggest(str(said), _FROZEN)}"
    )


_FROZEN = ("auto", "features", "none")
