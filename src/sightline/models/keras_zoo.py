"""`keras.applications` by name (``keras/VGG16``), each with its own preprocessing, which is read off by probing it.

The recorded nets of `sightline.models.keras_architectures` are found beside them (``keras/vgg7``).
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.errors import ModelError, suggest
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import keras, zoo
from sightline.models.architectures import ARCHITECTURES
from sightline.models.keras_architectures import KERAS_ARCHITECTURES, classes_in
from sightline.models.model import Model

__all__ = ["PREFIX", "keras_application", "names", "seeded"]

PREFIX = "keras/"


def names() -> list[str]:
    """List the architectures of `keras.applications` and the recorded ones."""
    found = (n for n, made in vars(keras.import_keras().applications).items() if callable(made) and n[0].isupper())
    return sorted([*found, *KERAS_ARCHITECTURES])


def keras_application(name: str, weights: str | os.PathLike[str] | None, seed: int = 0) -> Model:
    """Build an architecture with published weights ("default"), a weights file, or random ones (None).

    Raises ModelError for an unknown name and for weights that cannot be had or do not fit.
    """
    known = {n.casefold(): n for n in names()}
    if name.casefold() not in known:
        raise ModelError(f"Keras has no application '{name}'.{suggest(name, known.values())} See: sightline models.")
    architecture = known[name.casefold()]
    if architecture in KERAS_ARCHITECTURES:
        return _recorded(architecture, weights, seed)
    make = getattr(keras.import_keras().applications, architecture)
    untrained = zoo.wants_random(weights)
    net = _downloaded(make, architecture) if weights == "default" else seeded(seed, lambda: make(weights=None))
    said = "imagenet" if weights == "default" else "random" if untrained else Path(weights or "").name
    if said not in ("imagenet", "random"):
        keras.load_weights(net, Path(weights or ""), architecture)
    model = keras.from_keras(net, PREFIX + architecture, weights=said)
    how = preprocessing_of(make, model.preprocessing)
    return replace(model, preprocessing=how, labels=_labels(), assumed=False, notes=(zoo.RANDOM,) if untrained else ())


def _recorded(name: str, weights: str | os.PathLike[str] | None, seed: int) -> Model:
    """Build a recorded net, with as many classes as its weights have; none are published."""
    random_ones = zoo.wants_random(weights) or weights == "default"
    file = None if random_ones else Path(weights or "")
    classes = None if file is None else classes_in(file)
    make = KERAS_ARCHITECTURES[name]
    net = seeded(seed, make if classes is None else lambda: make(classes))
    if file is not None:
        keras.load_weights(net, file, PREFIX + name)
    model = keras.from_keras(net, PREFIX + name, weights="random" if file is None else file.name)
    how, notes = ARCHITECTURES[name].preprocessing, (zoo.RANDOM,) if file is None else ()
    return replace(model, preprocessing=how, assumed=False, notes=notes)


def seeded(seed: int, make: Callable[[], Any]) -> Any:
    """Return what is made, its weights drawn from a seed; the global random states are left alone."""
    before = random.getstate()  # from which Keras draws the seeds of its initialisers
    random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            return make()
    finally:
        random.setstate(before)


def _downloaded(make: Callable[..., Any], name: str) -> Any:
    try:
        with zoo.patience(), contextlib.redirect_stdout(sys.stderr):
            return make(weights="imagenet")
    except Exception as error:  # noqa: BLE001  Keras raises a bare Exception where a download fails
        raise ModelError(
            f"the ImageNet weights of {PREFIX}{name} could not be had ({' '.join(str(error).split())[:160]}); give a "
            "file with --weights FILE (weights= in Python), or --weights none for random ones."
        ) from None


def preprocessing_of(make: Callable[..., Any], usual: Preprocessing) -> Preprocessing:
    """Read an application's preprocessing off its own function: x -> a x + b for each channel, in some order."""
    function = sys.modules[make.__module__].preprocess_input
    probe = np.stack([np.zeros(3), *(np.eye(3) * 255)]).astype(np.float32).reshape(4, 1, 1, 3)
    shift, *bright = np.asarray(function(probe, data_format="channels_last")).reshape(4, 3).astype(np.float64)
    slopes = (np.stack(bright) - shift) / 255  # [channel in, channel out]
    slope = slopes.max(axis=0)
    scale = 1.0 if np.allclose(slope, 1) else 255.0
    mean, std = -shift / slope / scale, 1 / slope / scale
    return replace(
        usual,
        mean=tuple((np.round(mean, 7) + 0.0).tolist()),
        std=tuple(np.round(std, 7).tolist()),
        scale=scale,
        order="bgr" if slopes[0].argmax() == 2 else "rgb",
    )


def _labels() -> Labels:
    """Return ImageNet's class names, which torchvision holds; without it classes have numbers."""
    try:
        return zoo.metadata("resnet50")[1]
    except ModelError:
        return Labels()
