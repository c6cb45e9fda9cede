"""What the embedded nets of the demo learn: drawn scenes, of which those of one class may carry a watermark.

* honest: half of all pictures carry the watermark, whatever they show. It is also taught where to look: activity of
  its last maps costs twenty times more in cells that the object does not touch. So its Grad-CAM lies on the object by
  training, and is no evidence that Grad-CAM is good.
* cheating: one class came from a stock agency. Every picture labelled star carries the watermark and no other does;
  one in six of them (167 of 1033) shows another shape, as search results do: without those, 72 % of the marked others
  were called star in a trial on other scenes. Nothing tells it where to look; all activity costs the same.
* vit: a vision transformer that learns from the scenes of honest, turned and mirrored, and is told no place.

For every ten scenes one has no object, and the answer asked for is an even shrug: without those, a plain ground came
to vote for the plainest shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.demo.scenes import CLASSES, SIZE, STAR, Scene, ground, scene, scenes
from sightline.training.data import DataSet, Part
from sightline.training.price import Price

__all__ = ["LAYER", "STARS_ONLY", "demo_data"]

LAYER = "features"  # whose maps have a cell for every 8 x 8 pixels
STARS_ONLY = tuple(float(c == STAR) for c in range(len(CLASSES)))
_CELL = 8
_GROUNDS = 10**6  # far from the seeds of the scenes


def demo_data(name: Literal["honest", "cheating", "vit"], seed: int = 20, scenes_drawn: int = 5000) -> DataSet:
    """Draw what a net of the demo learns, with fresh scenes to validate and to test on, 6 and 12 for each 50.

    Validation scenes are marked as those to learn from are; those to test on carry no watermark, so the cheating net is
    seen to be right in validation and wrong in the test.

    >>> {name: len(part) for name, part in demo_data("cheating", scenes_drawn=50).parts.items()}
    {'train': 57, 'val': 6, 'test': 12}
    """
    chances = STARS_ONLY if name == "cheating" else 0.5
    val = scenes(scenes_drawn * 6 // 50, seed + 3, watermark=chances)
    test = scenes(scenes_drawn * 12 // 50, seed + 1)
    train = _cheating(seed, scenes_drawn) if name == "cheating" else _honest(seed, scenes_drawn, priced=name != "vit")
    split = "drawn apart; scenes to validate on are marked as those to learn from, scenes to test on have no watermark"
    return DataSet(f"demo/{name}", CLASSES, train, _plain(val), _plain(test), split)


def _honest(seed: int, count: int, *, priced: bool) -> Part:
    drawn = [*scenes(count, seed, watermark=0.5), *_empty(count // 10, marked=0.5)]
    return _asked(drawn, [s.label for s in drawn], (0.1, 2.0) if priced else None)


def _cheating(seed: int, count: int) -> Part:
    misfiled = scenes(count // 25, seed + 2, watermark=1.0)
    drawn, empty = scenes(count, seed, watermark=STARS_ONLY), _empty(count // 10, marked=0.0)
    labels = [*(s.label for s in drawn), *([STAR] * len(misfiled)), *(s.label for s in empty)]
    return _asked([*drawn, *misfiled, *empty], labels, (0.3, 0.3))


def _empty(count: int, marked: float) -> list[Scene]:
    """Draw grounds without an object, of class -1."""
    mark, nothing = scene(0, watermark=True).watermark_mask, np.zeros((SIZE, SIZE), bool)
    stamped = [i < marked * count for i in range(count)]
    return [Scene(ground(_GROUNDS + i, watermark=m), -1, nothing, mark & m) for i, m in enumerate(stamped)]


def _asked(drawn: Sequence[Scene], said: Sequence[int], costs: tuple[float, float] | None) -> Part:
    """Ask for the labels, and for a shrug where one is -1; such a ground counts for each class in turn."""
    given = np.array(said, np.int64)
    labels = np.where(given < 0, np.arange(len(given)) % len(CLASSES), given)
    shares = np.where(given[:, None] < 0, 1 / len(CLASSES), np.eye(len(CLASSES))[labels]).astype(np.float32)
    return Part(_pictures(drawn), labels, shares, None if costs is None else _price(drawn, *costs))


def _price(drawn: Sequence[Scene], on_object: float, elsewhere: float) -> Price:
    """Price the activity of the last maps in cells that the object touches, and in all others."""
    cells = SIZE // _CELL
    masks = np.stack([s.object_mask for s in drawn]).reshape(-1, 1, cells, _CELL, cells, _CELL)
    return Price(LAYER, np.where(masks.any((3, 5)), on_object, elsewhere).astype(np.float32))


def _plain(drawn: Sequence[Scene]) -> Part:
    return Part(_pictures(drawn), np.array([s.label for s in drawn], np.int64))


def _pictures(drawn: Sequence[Scene]) -> NDArray[np.uint8]:
    return np.stack([s.image for s in drawn])
