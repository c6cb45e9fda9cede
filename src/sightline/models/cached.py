"""Which published weights are on this machine already, so that their models load without a network."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sightline.errors import ModelError
from sightline.models import keras_zoo, zoo

__all__ = ["Cached", "cached_models", "download_megabytes"]


@dataclass(frozen=True, order=True)
class Cached:
    """A model's name and its weights, as `load` takes them."""

    name: str
    weights: str = "default"


def cached_models() -> list[Cached]:
    """List the torchvision models and Keras applications whose published weights were downloaded before.

    They are looked for where torch and Keras keep them; neither torchvision nor Keras is imported where nothing is.

    >>> isinstance(cached_models(), list)
    True
    """
    torch_files = _files(Path(torch.hub.get_dir()) / "checkpoints", ".pth")
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    keras_files = _files(Path(home) / "models", ".h5")
    return [*_of_torchvision(torch_files), *_of_keras(keras_files)]


def download_megabytes(name: str) -> float | None:
    """Return how much a model's default weights are to download, in megabytes; None where that is not known before."""
    if name.startswith(keras_zoo.PREFIX):
        return None
    size = zoo.pretrained(name, "default").meta.get("_file_size")
    return None if size is None else float(size)


def _files(folder: Path, suffix: str) -> frozenset[str]:
    try:
        return frozenset(p.name for p in folder.iterdir() if p.suffix == suffix)
    except OSError:  # there is no such folder, or it is not ours to read
        return frozenset()


@lru_cache(maxsize=4)
def _of_torchvision(files: frozenset[str]) -> tuple[Cached, ...]:
    if not files:
        return ()
    try:
        names = zoo.names()
    except ModelError:  # torchvision is not installed, so these are of no use
        return ()
    return tuple(sorted(found for name in names for found in _weights_of(name, files)))


def _weights_of(name: str, files: frozenset[str]) -> list[Cached]:
    enum: Any = zoo.weights_enum(name)
    there = [w for w in enum if w.url.rpartition("/")[2] in files]
    return [Cached(name, "default" if w == enum.DEFAULT else w.name) for w in there]


@lru_cache(maxsize=4)
def _of_keras(files: frozenset[str]) -> tuple[Cached, ...]:
    whole = [f for f in files if "notop" not in f and "no_top" not in f]
    if not whole:
        return ()
    try:
        names = [n for n in keras_zoo.names() if n[0].isupper()]
    except ModelError:  # Keras is not installed, so these are of no use
        return ()
    found = {_application(file, names) for file in whole}
    return tuple(sorted(Cached(keras_zoo.PREFIX + name) for name in found if name))


def _application(file: str, names: list[str]) -> str | None:
    """Return the application that a weights file is of: the one with the longest name that the file's name holds."""
    held = [n for n in names if _letters(n) in _letters(file)]
    return max(held, key=len, default=None)


def _letters(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.casefold())
