"""The recorded classifiers of histology tiles and of MNIST-1D in Keras, layer by layer as they were saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.models.keras import import_keras

__all__ = ["KERAS_ARCHITECTURES", "classes_in", "mnist1d_cnn", "vgg7"]


def vgg7(classes: int = 8) -> Any:
    """Return the net of the histology tiles, (N, 224, 224, 3) to probabilities (N, classes); 66,088 parameters for 8.

    Its L2 is no part of it: the weight decay of the training's settings is.

    >>> vgg7().count_params()
    66088
    """
    layers, net = import_keras().layers, _sequential("vgg7", (224, 224, 3))
    for number, width in enumerate((32, 32, 64, 64)):
        net.add(layers.Conv2D(width, 3, padding="same", activation="relu", name=_numbered("conv2d", number)))
        if number % 2:
            net.add(layers.MaxPooling2D(2, name=_numbered("max_pooling2d", number // 2)))
    net.add(layers.GlobalAveragePooling2D(name="global_average_pooling2d"))
    return _ended(net, classes)


def mnist1d_cnn(classes: int = 10, length: int = 40) -> Any:
    """Return the net of MNIST-1D, series (N, 40, 1) to probabilities (N, classes); 13,960 parameters for 10.

    >>> mnist1d_cnn().count_params()
    13960
    """
    layers, net = import_keras().layers, _sequential("mnist1d-cnn", (length, 1))
    for number, kernel in enumerate((5, 3, 3)):
        net.add(layers.Conv1D(25, kernel, padding="same", activation="relu", name=_numbered("conv1d", number)))
    net.add(layers.Flatten(name="flatten"))
    return _ended(net, classes)


def _sequential(name: str, shape: tuple[int, ...]) -> Any:
    keras = import_keras()
    return keras.Sequential([keras.Input(shape)], name=name)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _ended(net: Any, classes: int) -> Any:
    keras = import_keras()
    drawn = keras.initializers.RandomNormal(0.0, 0.5)
    net.add(keras.layers.Dense(classes, activation="softmax", kernel_initializer=drawn, name="dense"))
    return net


KERAS_ARCHITECTURES: Mapping[str, Callable[..., Any]] = {"vgg7": vgg7, "mnist1d-cnn": mnist1d_cnn}


def classes_in(weights: Path) -> int | None:
    """Return how many classes the last layer of these nets has in an .h5 file, or None where it does not show."""
    import h5py

    if not weights.is_file() or not h5py.is_hdf5(weights):
        return None
    found: list[int] = []

    def look(name: str, part: Any) -> None:
        if isinstance(part, h5py.Dataset) and part.ndim == 2 and "optimizer" not in name:
            found.append(int(part.shape[1]))

    with h5py.File(weights) as file:
        file.visititems(look)
    return found[0] if len(found) == 1 else None
