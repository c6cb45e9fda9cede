"""The sets of images that a concept test learns from: no image in two of them, and enough of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.concept.cav import Floats
from sightline.concept.reading import Study, distinct
from sightline.errors import InputError, ParameterError
from sightline.samples import Sample

__all__ = ["FEWEST", "FEWEST_RANDOM", "ImageSets", "Sets", "read_sets"]

FEWEST, FEWEST_RANDOM = 10, 20


@dataclass(frozen=True, eq=False)
class Sets:
    """The activations (N, D) of each concept's images, and of random ones (None: each is told from the others)."""

    concepts: Mapping[str, Floats]
    random: Floats | None

    @property
    def pool(self) -> Floats:
        """The activations from which two random sets are drawn."""
        return np.concatenate(list(self.concepts.values())) if self.random is None else self.random

    def others(self, name: str) -> Floats:
        """Return what a concept is told from."""
        if self.random is not None:
            return self.random
        return np.concatenate([v for k, v in self.concepts.items() if k != name])


@dataclass(frozen=True, eq=False)
class ImageSets:
    """The images of each concept, the random ones, and what must be said of them."""

    concepts: Mapping[str, list[Sample]]
    random: list[Sample] | None
    notes: tuple[str, ...]

    def read(self, activations: Callable[[list[Sample]], Floats]) -> Sets:
        """Return the sets' activations."""
        random = None if self.random is None else activations(self.random)
        return Sets({name: activations(images) for name, images in self.concepts.items()}, random)


def read_sets(study: Study, concepts: Any, random: Any) -> ImageSets:
    """Read the images of concepts and the random ones; none is both a concept's and what it is told from.

    Raises ParameterError where there is nothing to tell a concept from, InputError for sets that are too small.
    """
    _enough(study.images, "the class", FEWEST)
    if not isinstance(concepts, Mapping) or not concepts:
        raise ParameterError("concepts: wanted names with folders or images, as {'stripes': 'folder/of/stripes'}.")
    if random is None and len(concepts) < 2:
        raise ParameterError(
            f"only the concept '{next(iter(concepts))}' came: it must be told from something; give random= "
            "(--random DIR), images of anything else, or a second concept."
        )
    read = {str(name): study.read(given) for name, given in concepts.items()}
    if random is not None:
        read[_RANDOM] = _all(study, random)
    kept, left_out = _apart(read)
    pool = kept.pop(_RANDOM, None)
    for name, images in kept.items():
        _enough(images, f"the concept '{name}'", FEWEST)
    if pool is not None:
        _enough(pool, "random", FEWEST_RANDOM)
    return ImageSets(kept, pool, (*_told(left_out), *_own(study, kept), *_relative(pool)))


_RANDOM = "\0random"


def _all(study: Study, random: Any) -> list[Sample]:
    """Read one folder of random images, or several."""
    if isinstance(random, (list, tuple)) and all(isinstance(r, (str, os.PathLike)) for r in random):
        return [sample for given in random for sample in study.read(given)]
    return study.read(random)


def _apart(read: Mapping[str, list[Sample]]) -> tuple[dict[str, list[Sample]], int]:
    """Take out what would be learnt from on both sides; with random images two concepts may share a picture."""
    kept: dict[str, list[Sample]] = {}
    for name, images in read.items():
        shared = _RANDOM in read and name != _RANDOM
        kept[name] = distinct(images, [] if shared else [s for before in kept.values() for s in before])
    return kept, sum(map(len, read.values())) - sum(map(len, kept.values()))


def _enough(images: list[Sample], of: str, fewest: int) -> None:
    if len(images) < fewest:
        raise InputError(
            f"{len(images)} different images of {of} came; wanted at least {fewest}, better 30 or more: with fewer a "
            "direction is mostly chance."
        )


def _told(left_out: int) -> list[str]:
    return [f"left out: {left_out} images that came twice, or on both sides"] if left_out else []


def _own(study: Study, sets: Mapping[str, list[Sample]]) -> list[str]:
    shared = {name: len(images) - len(distinct(images, study.images)) for name, images in sets.items()}
    return [f"{n} images of '{name}' are among the class's own" for name, n in shared.items() if n]


def _relative(pool: list[Sample] | None) -> list[str]:
    return [] if pool is not None else ["no random images came: each concept is told from the others' images"]
