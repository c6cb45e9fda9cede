"""What is learned from: images or series with their classes, in parts that are kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sightline.training.price import Price

__all__ = ["DataSet", "Part"]

Images: TypeAlias = "Sequence[str] | NDArray[Any]"


@dataclass(frozen=True, eq=False)
class Part:
    """Images, as files or as an array (N, H, W, 3) uint8 or (N, L) float, with the index of each one's class (N,).

    ``shares`` (N, K) float, each row summing to 1, are learned in the labels' place where an answer is to be spread
    over the classes. ``price`` charges the activity of a layer while it learns.
    """

    images: Images
    labels: NDArray[np.int64]
    shares: NDArray[np.float32] | None = None
    price: Price | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> NDArray[Any]:
        """What is asked for: the shares (N, K) where there are any, or else the labels (N,)."""
        return self.labels if self.shares is None else self.shares

    def counts(self, classes: int) -> list[int]:
        """Return how many images each class has."""
        return [int(n) for n in np.bincount(self.labels, minlength=classes)]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images to learn from, to stop by and (where there are any) to test on.

    ``split`` says in a sentence how they were parted. ``hashes`` holds the SHA-256 of each file's bytes, by its path.
    ``skipped`` lists what could not be read: {"image", "reason"}. ``folder`` is None for what was generated.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part | None
    split: str
    folder: str | None = None
    hashes: Mapping[str, str] | None = None
    skipped: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that there are, by name: train, val and perhaps test."""
        listed = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in listed.items() if part is not None}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the classes, of all images with what is asked of them, and of which part each is in: 16 digits."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for name, part in self.parts.items():
            digest.update(name.encode())
            digest.update(part.labels.astype("<i8").tobytes())
            if part.shares is not None:
                digest.update(part.shares.astype("<f4").tobytes())
            if part.price is not None:
                digest.update(part.price.layer.encode() + part.price.costs.astype("<f4").tobytes())
            if isinstance(part.images, np.ndarray):
                digest.update(np.ascontiguousarray(part.images).tobytes())
            else:
                digest.update("".join((self.hashes or {})[f] for f in part.images).encode())
        return digest.hexdigest()[:16]
