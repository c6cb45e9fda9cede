"""Small Keras models and pictures to train them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.labels import Labels
from sightline.models.keras import import_keras
from sightline.models.keras_zoo import seeded
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.data import DataSet, Part
from sightline.training.job import Job, Told
from sightline.training.settings import TrainSettings

keras = import_keras()
layers = keras.layers
CLASSES = ("blue", "green", "red")
SIDE = 12


def pictures(count: int, seed: int, uneven: bool = False) -> Part:
    """Return noise, tinted by class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    if uneven:
        labels[: count // 2] = 0
    images = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    images[np.arange(count), :, :, labels] += 120
    return Part(images.astype(np.uint8), labels.astype(np.int64))


def data(train: int = 24, uneven: bool = False) -> DataSet:
    return DataSet("tints", CLASSES, pictures(train, 0, uneven), pictures(9, 1), None, "made")


def body(classes: int, rate: float = 0.5) -> list[Any]:
    return [
        layers.Conv2D(4, 3, padding="same", name="conv1"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.Dropout(rate, name="early"),
        layers.Conv2D(6, 3, padding="same", activation="relu", name="conv2"),
        layers.GlobalAveragePooling2D(name="gap"),
        layers.Dense(8, activation="relu", name="fc"),
        layers.Dropout(rate, name="late"),
        layers.Dense(classes, activation="softmax", name="head"),
    ]


def sequential(classes: int = 5, rate: float = 0.5) -> Any:
    return seeded(3, lambda: keras.Sequential([keras.Input((SIDE, SIDE, 3)), *body(classes, rate)], name="small"))


def functional(parts: list[Any], side: int = SIDE) -> Any:
    x = given = keras.Input((side, side, 3))
    for part in parts:
        x = part(x)
    return keras.Model(given, x, name="graph")


def model(net: Any, weights: str | None = None) -> Model:
    found = load(net)
    how = replace(found.preprocessing, resize=(SIDE, SIDE), crop=None)
    said = found.weights if weights is None else weights
    return replace(found, preprocessing=how, assumed=False, weights=said, labels=Labels(CLASSES))


def arrays(net: Any) -> list[np.ndarray]:
    """Return the weights; Keras' own way warns."""
    return [w.value.detach().numpy().copy() for w in net.weights]


def job(net: Any, out: Path, *, on: DataSet | None = None, told: Told | None = None, **asked: Any) -> Job:
    given = {"epochs": 3, "patience": 0, "batch_size": 8, "optimizer": "sgd", "lr": 0.05} | asked
    resume = given.pop("resume", False)
    how = given.pop("weights", None)
    opened = net if isinstance(net, Model) else model(net, how)
    return Job(opened, on or data(), TrainSettings(**given), out, resume, told or Told())


def breaking(after: int, stop: Callable[[], None]) -> Told:
    """Stop after so many training steps, wherever that is in an epoch."""
    seen = {"stage": "", "steps": 0}

    def step(count: int) -> None:
        seen["steps"] += count if seen["stage"] == "training" else 0
        if seen["steps"] == after:
            stop()

    return Told(stage=lambda name, steps: seen.update(stage=name), step=step)
