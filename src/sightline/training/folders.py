"""A folder of pictures, read as a data set: class folders, split here or as they came."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sightline.images import MAX_PIXELS
from sightline.paths import image_tree
from sightline.training.data import DataSet, Part

__all__ = ["read_folder"]


def read_folder(
    folder: str | os.PathLike[str],
    *,
    val_share: float = 0.2,
    seed: int = 0,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    on_count: Callable[[int], None] = lambda images: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> DataSet:
    """Read the images of a folder with their classes and part them."""
    root = Path(folder)
    classes = tuple(sorted(p.name for p in root.iterdir() if p.is_dir()))
    files = {name: image_tree(root / name) for name in classes}
    on_count(sum(map(len, files.values())))
    rng = np.random.default_rng(seed)
    train: list[tuple[str, int]] = []
    val: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        order = rng.permutation(len(files[name])).tolist()
        held = max(1, round(val_share * len(order)))
        val += [(files[name][i], label) for i in sorted(order[:held])]
        train += [(files[name][i], label) for i in sorted(order[held:])]
    hashes = {f: hashlib.sha256(Path(f).read_bytes()).hexdigest() for fs in files.values() for f in fs}
    return DataSet(root.name, classes, _part(train), _part(val), None, "stratified", folder=str(root), hashes=hashes)


def _part(listed: list[tuple[str, int]]) -> Part:
    return Part([f for f, _ in listed], np.array([label for _, label in listed], np.int64))
