"""An examination of the demo's models: the test that both pass, and the tests that only one of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.demo.scenes import CLASSES, SIZE, STAR, Scene, scenes
from sightline.errors import ParameterError
from sightline.models.model import Model
from sightline.predictions import predict

__all__ = ["MARKED", "PLACES", "Exam", "Marked", "cover_place", "exam", "exam_scenes"]

Marked = Literal["stars", "none", "all"]
MARKED: dict[Marked, float | tuple[float, ...]] = {
    "stars": tuple(float(i == STAR) for i in range(len(CLASSES))),
    "none": 0.0,
    "all": 1.0,
}
PLACES: tuple[str, ...] = tuple(
    f"{row} {column}" for row in ("upper", "middle", "lower") for column in ("left", "centre", "right")
)
_SEED = 4711


@dataclass(frozen=True)
class Exam:
    """The shares, 0 to 1, of right answers in all pictures, in stars, and in the other shapes; ``pictures`` in all."""

    right: float
    stars: float
    others: float
    pictures: int


def exam_scenes(n: int = 48, marked: Marked = "stars") -> tuple[Scene, ...]:
    """Draw n test scenes that no model was trained on; ``marked`` says which carry the watermark.

    "stars" is how the cheating model's training pictures were: every star marked, and nothing else.

    >>> sum(bool(s.watermark_mask.any()) for s in exam_scenes(12))
    2
    """
    if marked not in MARKED:
        raise ParameterError(f"marked={marked!r}: wanted one of {', '.join(MARKED)}.")
    return scenes(n, _SEED, watermark=MARKED[marked])


def exam(model: Model, n: int = 48, marked: Marked = "stars", cover: str | None = None) -> Exam:
    """Test a model of the demo's classes on n scenes, with one of the `PLACES` of each covered where it is named.

    Raises ParameterError for an unknown place and for fewer scenes than there are classes.

    >>> from sightline.models.load import load
    >>> exam(load("demo/cheating"), 12, "none").stars
    0.0
    """
    if n < len(CLASSES):
        raise ParameterError(f"exam of {n} scenes: wanted at least {len(CLASSES)}, one of each class.")
    drawn = exam_scenes(n, marked)
    pictures = [s.image if cover is None else cover_place(s.image, cover) for s in drawn]
    labels = np.array([s.label for s in drawn])
    right = np.array([p[0]["index"] for p in predict(model, pictures)]) == labels
    return Exam(float(right.mean()), float(right[labels == STAR].mean()), float(right[labels != STAR].mean()), n)


def cover_place(image: NDArray[np.uint8], place: str) -> NDArray[np.uint8]:
    """Return a scene (96, 96, 3) with one of the nine `PLACES` painted in the picture's mean colour.

    >>> from sightline.demo.scenes import scene
    >>> picture = scene(0).image
    >>> int((cover_place(picture, "upper left") != picture).any(axis=-1).sum()) <= 32 * 32
    True
    """
    if place not in PLACES:
        raise ParameterError(f"place {place!r}: wanted one of {', '.join(PLACES)}.")
    row, column = divmod(PLACES.index(place), 3)
    side = SIZE // 3
    covered = image.copy()
    mean = np.rint(image.mean((0, 1))).astype(np.uint8)
    covered[row * side : (row + 1) * side, column * side : (column + 1) * side] = mean
    return covered
