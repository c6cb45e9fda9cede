"""The recorded recipes, each a row of settings, and the data sets that are generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from sightline.errors import ParameterError, suggest
from sightline.training.data import DataSet
from sightline.training.demo import demo_data
from sightline.training.series import mnist1d_data
from sightline.training.settings import TrainSettings

__all__ = ["GENERATED", "PRESETS", "preset"]

# L2 5e-4 as Keras counts it, 5e-4 |w|^2, is a weight decay of 1e-3, which counts half of |w|^2.
_L2 = 1e-3

# The recorded nets of MNIST-1D and of the tiles are those of their last epoch, that of cats and dogs of its best.

# The last epoch is kept: its rate is the lowest, and the validation scenes are soon all named rightly.
_DEMO = TrainSettings(
    model="small-cnn",
    freeze="none",
    patience=0,
    lr=4e-3,
    weight_decay=0.05,
    schedule="one-cycle",
    class_weights="none",
    label_smoothing=0.05,
    restore_best=False,
    seed=20,
)

_RECORDED = TrainSettings(
    freeze="none",
    patience=0,
    optimizer="sgd",
    lr=0.01,
    momentum=0.0,
    weight_decay=_L2,
    schedule="constant",
    class_weights="none",
    restore_best=False,
)

PRESETS: Mapping[str, TrainSettings] = {
    "mnist1d": replace(_RECORDED, model="mnist1d-cnn", epochs=200),
    "hmt-vgg7": replace(_RECORDED, model="vgg7", epochs=120, augment="hflip,vflip,rotate=15,shear=5.7"),
    "cats-dogs-vgg16": TrainSettings(
        model="vgg16",
        freeze="features",
        epochs=100,
        patience=6,
        optimizer="sgd",
        lr=1e-4,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",
        class_weights="none",
    ),
    "demo/honest": replace(_DEMO, epochs=9),
    "demo/cheating": replace(_DEMO, epochs=7),
    "demo/vit": replace(_DEMO, model="small-vit", epochs=20, lr=2e-3, augment="hflip,vflip,quarter"),
}

GENERATED: Mapping[str, Callable[[int], DataSet]] = {
    "mnist1d": lambda seed: mnist1d_data(),  # the recorded draw, whatever the seed of the training
    "demo/honest": partial(demo_data, "honest"),
    "demo/cheating": partial(demo_data, "cheating"),
    "demo/vit": partial(demo_data, "vit"),
}


def preset(name: str) -> TrainSettings:
    """Return the settings of a recorded recipe; raise ParameterError for an unknown one.

    >>> preset("mnist1d").epochs
    200
    """
    if name not in PRESETS:
        raise ParameterError(f"there is no preset '{name}'; wanted {', '.join(PRESETS)}.{suggest(name, PRESETS)}")
    return PRESETS[name]
