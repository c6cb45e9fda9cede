"""The fixed images of a watch: read once before the training, each with a name of its own."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sightline.arrays import check_kind, read_numbers
from sightline.errors import ImageError, ParameterError
from sightline.images import MAX_PIXELS, read_image
from sightline.output import file_part
from sightline.paths import image_files, shown

__all__ = ["Subject", "subjects_of"]

MOST = 64
_NUMBERS = re.compile(r"\.(npy|npz|npz:[^:]+|csv|tsv|txt)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Subject:
    """One image: a name that is a part of file names, what `explain` is given, and a hash of what it holds."""

    name: str
    given: Any
    hash: str


def subjects_of(images: Any, names: Sequence[str] | None) -> list[Subject]:
    """Read images as `watch` takes them and name each.

    Raises ImageError for one that cannot be read, ParameterError for too many, or names that do not match them.
    """
    listed = _listed(images)
    if not 1 <= len(listed) <= MOST:
        raise ParameterError(f"{len(listed)} images came to be watched; wanted 1 to {MOST}: choose some.")
    if names is not None and (isinstance(names, str) or len(names) != len(listed)):
        raise ParameterError(f"names={names!r} came for {len(listed)} images; wanted a list with one for each.")
    called = _unlike(list(names) if names is not None else [_name(one, n) for n, one in enumerate(listed, 1)])
    return [Subject(name, one, _digest(one)) for name, one in zip(called, listed, strict=True)]


def _listed(images: Any) -> list[Any]:
    if isinstance(images, Tensor):
        return _rows(images)
    if isinstance(images, (str, os.PathLike)) and Path(images).is_dir():
        return list(image_files(images))
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    listed = list(images) if isinstance(images, (list, tuple)) else [images]
    if any(isinstance(one, Tensor) for one in listed):
        raise ImageError(
            "a list of tensors came to be watched; wanted one preprocessed tensor (N, C, *S): torch.stack."
        )
    return listed


def _rows(images: Tensor) -> list[Any]:
    if images.ndim < 3 or not images.is_floating_point() or not bool(images.isfinite().all()):
        raise ImageError(
            f"a {images.dtype} tensor of shape {tuple(images.shape)} came to be watched; wanted preprocessed images "
            "(N, C, H, W) or signals (N, C, L), float and finite."
        )
    return list(images.detach().cpu().clone().split(1))


def _name(image: Any, number: int) -> str:
    path = image if isinstance(image, (str, os.PathLike)) else getattr(image, "filename", "")
    return Path(os.fsdecode(path or "")).stem or f"image_{number}"


def _unlike(names: list[str]) -> list[str]:
    """Return names as parts of file names; one that came before gets a number."""
    found: list[str] = []
    for name in names:
        part, number = file_part(str(name)), 1
        one = part
        while one.casefold() in map(str.casefold, found):
            number += 1
            one = f"{part}-{number}"
        found.append(one)
    return found


def _digest(image: Any) -> str:
    """Read an image and return a hash of its values; raise ImageError where it cannot be read."""
    if isinstance(image, Tensor):
        return _hash(image.float().numpy())
    if isinstance(image, np.ndarray):
        check_kind(image.dtype, "the array")
        return _hash(image)
    if isinstance(image, (str, os.PathLike)) and _NUMBERS.search(os.fsdecode(image)):
        path = os.fsdecode(image)
        return _hash(read_numbers(path, shown(path), MAX_PIXELS * 4))
    return read_image(image).hash


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(f"{values.shape}{values.dtype}".encode() + values.tobytes()).hexdigest()[:16]
