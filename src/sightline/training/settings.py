"""How to train: every choice in one place, checked before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sightline.errors import ParameterError, suggest
from sightline.training.augment import read_augmentation

__all__ = ["ClassWeights", "Optimizer", "Schedule", "Settings"]

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["plateau", "cosine", "one-cycle", "constant"]
ClassWeights = Literal["auto", "balanced", "none"]


@dataclass(frozen=True)
class Settings:
    """What `train` does with a model and a data set.

    ``model`` is what `load` takes; ``weights`` as there. ``freeze`` is "features" (all but the last block), "none", a
    number of layers with weights from the input on, or "auto": features where the weights are trained, none where
    they are random. ``epochs`` is the most, ``patience`` how many may pass without a better validation accuracy (0: no
    end to it). ``lr`` None is 0.001, or 0.0001 where trained weights are changed from the input on. ``weight_decay`` is
    of weights alone, not of biases and norms: the gradient of weight_decay / 2 |w|^2, which AdamW takes apart from the
    loss. ``image_size`` is the side of the input in pixels, None the model's own. ``augment`` is read by
    `read_augmentation`. ``steps_per_epoch`` ends an epoch after so many batches. ``class_weights`` "auto" balances the
    loss where one class has over 1.5 times the images of another. ``val_share`` is held back where a folder is not
    split yet.
    ``restore_best`` keeps the weights of the best epoch, not of the last.

    >>> Settings(epochs=5).patience
    6
    """

    model: str | None = None
    weights: str | None = "default"
    freeze: str = "auto"
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
        for name, value, known in (
            ("optimizer", self.optimizer, get_args(Optimizer)),
            ("schedule", self.schedule, get_args(Schedule)),
            ("class_weights", self.class_weights, get_args(ClassWeights)),
        ):
            if value not in known:
                raise ParameterError(f"{name}={value!r}: wanted {', '.join(known)}.{suggest(str(value), known)}")
        _check_numbers(self)
        _check_freeze(self.freeze)
        read_augmentation(self.augment)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Settings:
        """Read what `to_dict` wrote; raise ParameterError for a name that is none."""
        known = [f.name for f in fields(Settings)]
        for name in data:
            if name not in known:
                raise ParameterError(f"settings: {name!r} is unknown; wanted {', '.join(known)}.")
        return Settings(**data)


_LEAST: dict[str, float] = {"epochs": 1, "patience": 0, "batch_size": 1, "steps_per_epoch": 1, "image_size": 8}


def _check_numbers(asked: Settings) -> None:
    for name, least in _LEAST.items():
        value = getattr(asked, name)
        if value is not None and value < least:
            raise ParameterError(f"{name}={value}: wanted at least {least:g}.")
    if asked.lr is not None and not 0 < asked.lr < float("inf"):
        raise ParameterError(f"lr={asked.lr}: wanted a finite number above 0.")
    if not 0 <= asked.momentum < 1:
        raise ParameterError(f"momentum={asked.momentum}: wanted 0 to less than 1.")
    if not 0 <= asked.weight_decay < float("inf"):
        raise ParameterError(f"weight_decay={asked.weight_decay}: wanted 0 or more.")
    if not 0 <= asked.label_smoothing < 1:
        raise ParameterError(f"label_smoothing={asked.label_smoothing}: wanted 0 to less than 1.")
    if not 0 < asked.val_share < 1:
        raise ParameterError(f"val_share={asked.val_share}: wanted a share between 0 and 1.")


def _check_freeze(said: str) -> None:
    if said not in ("auto", "features", "none") and not said.isdigit():
        raise ParameterError(
            f"freeze={said}: wanted features, none, auto, or how many layers with weights stay as they are."
            f"{suggest(said, ['features', 'none', 'auto'])}"
        )
