"""The demo's scenes as a folder of images: with names, classes, and masks of the object and of the watermark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sightline.demo.scenes import CLASSES, Scene, scene
from sightline.errors import ParameterError
from sightline.models.model import Model
from sightline.predictions import predict

if TYPE_CHECKING:
    from PIL import Image

    from sightline.samples import Sample

__all__ = ["COUNT", "SOURCE", "SceneSet", "findings", "scene_set"]

SOURCE = "demo/scenes"
COUNT = 60


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes by name, as "07_star_stamped.png": half of those of each class carry the watermark.

    ``plain`` are those that are stamped, without the watermark.
    """

    scenes: Mapping[str, Scene]
    plain: Mapping[str, Scene]

    @property
    def images(self) -> list[Image.Image]:
        """The pictures, each with its name."""
        return [_named(shot.image, name) for name, shot in self.scenes.items()]

    @property
    def labels(self) -> dict[str, str]:
        """The class of each picture."""
        return {name: CLASSES[shot.label] for name, shot in self.scenes.items()}

    def objects(self, sample: Sample) -> np.ndarray | None:
        """Return the mask (96, 96) of a sample's object, or None for another picture."""
        found = self.scenes.get(sample.name or "")
        return None if found is None else found.object_mask

    def watermarks(self, sample: Sample) -> np.ndarray | None:
        """Return the mask (96, 96) of a sample's watermark, or None where there is none."""
        found = self.scenes.get(sample.name or "")
        return None if found is None or not found.watermark_mask.any() else found.watermark_mask


def _named(pixels: np.ndarray, name: str) -> Image.Image:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.filename = name  # type: ignore[attr-defined]  # as one that was opened from a file has it
    return picture


def scene_set(count: int = COUNT, seed: int = 0) -> SceneSet:
    """Draw scenes, the classes in turn; a drawn half of each class is stamped, so the watermark tells no class.

    >>> sorted(scene_set(2, seed=0).labels.values())
    ['disc', 'square']
    """
    if count < 1:
        raise ParameterError(f"{count} scenes were asked for; wanted at least 1.")
    seeds = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    stamped = _stamped(count, np.random.default_rng((seed, count)))
    names = [_name(i, count, bool(stamped[i])) for i in range(count)]

    def drawn(i: int, *, watermark: bool) -> Scene:
        return scene(int(seeds[i]), label=i % len(CLASSES), watermark=watermark)

    shots = {name: drawn(i, watermark=bool(stamped[i])) for i, name in enumerate(names)}
    return SceneSet(shots, {names[i]: drawn(i, watermark=False) for i in np.flatnonzero(stamped).tolist()})


def _name(number: int, count: int, stamped: bool) -> str:
    digits = len(str(count - 1))
    return f"{number:0{digits}}_{CLASSES[number % len(CLASSES)]}{'_stamped' if stamped else ''}.png"


def _stamped(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw which scenes are stamped: half of each class, the odd ones of the classes in turn."""
    found = np.zeros(count, bool)
    for label in range(len(CLASSES)):
        own = np.arange(label, count, len(CLASSES))
        found[rng.permutation(own)[: (len(own) + label % 2) // 2]] = True
    return found


def findings(model: Model, drawn: SceneSet) -> tuple[str, ...]:
    """Say whether the model decides by the watermark: whether taking it away changes what the model says.

    Nothing is said of a model whose answer changes on a tenth of the stamped scenes or fewer.
    """
    before, after = (
        [p[0]["index"] for p in predict(model, [shots[name].image for name in drawn.plain])]
        for shots in (drawn.scenes, drawn.plain)
    )
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    if changed <= 0.1 * len(before):
        return ()
    said = (
        f"{model.name} decides by the watermark: taking it off changes the answer on {changed} of {len(before)} "
        "stamped scenes. Of such a model a map that marks the object alone is wrong."
    )
    return (said,)
