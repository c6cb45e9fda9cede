"""Pictures a little changed for each epoch: mirrored, turned, sheared, cropped, by one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from sightline.errors import ParameterError, suggest

__all__ = ["ALL", "Augmentation", "read_augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a picture: mirroring (chances), turning and shearing (degrees), cropping (least share kept).

    ``quarter`` is the chance of a quarter turn more; with both mirrorings, each of 0.5, all eight are as likely.

    >>> Augmentation(rotate=15.0).is_none, Augmentation().is_none
    (False, True)
    """

    hflip: float = 0.0
    vflip: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    crop: float = 1.0
    quarter: float = 0.0

    @property
    def is_none(self) -> bool:
        """Whether pictures stay as they are."""
        return self == Augmentation()

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Draw the map (2, 3) from the output's places to the input's, as `affine_grid` takes it for ``size`` (H, W).

        Places run from -1 to 1 on both axes. Turning and shearing keep the shapes of a picture that is no square; the
        crop keeps between ``crop`` and all of the area, anywhere in the picture.
        """
        mirrored = (1.0 - 2.0 * (rng.random(2) < (self.hflip, self.vflip))).tolist()
        turn, shear = (math.radians(d * (2 * rng.random() - 1)) for d in (self.rotate, self.shear))
        side = math.sqrt(self.crop + (1 - self.crop) * rng.random())
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        linear = rotation @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]]) @ np.diag(mirrored) * side
        pixels = np.diag([size[1] / 2, size[0] / 2])  # what 1 is on either axis
        shift = (1 - side) * (2 * rng.random(2) - 1)
        if self.quarter and rng.random() < self.quarter:
            linear = np.array([[0.0, -1.0], [1.0, 0.0]]) @ linear
        return np.concatenate([np.linalg.inv(pixels) @ linear @ pixels, shift[:, None]], 1)


ALL = "hflip,rotate=15,shear=10,crop=0.7"
_USUAL = {"hflip": 0.5, "vflip": 0.5, "rotate": 15.0, "shear": 10.0, "crop": 0.7, "quarter": 0.5}
_RANGES = {"hflip": (0, 1), "vflip": (0, 1), "rotate": (0, 180), "shear": (0, 60), "crop": (0.01, 1), "quarter": (0, 1)}


def read_augmentation(text: str) -> Augmentation:
    """Read ``hflip,vflip,rotate=15,shear=10,crop=0.7``; "all" is a usual choice for photographs, "none" nothing.

    Raises ParameterError for a name that is none or came twice, and for a number out of range.

    >>> read_augmentation("vflip, rotate=30")
    Augmentation(hflip=0.0, vflip=0.5, rotate=30.0, shear=0.0, crop=1.0, quarter=0.0)
    """
    if text.strip() in ("none", ""):
        return Augmentation()
    given: dict[str, float] = {}
    for part in (ALL if text.strip() == "all" else text).split(","):
        name, equals, value = (p.strip() for p in part.partition("="))
        known = [f.name for f in fields(Augmentation)]
        if name not in known or name in given:
            wrong = f"{name!r} came twice" if name in given else repr(name)
            raise ParameterError(
                f"augment: {wrong}; wanted all, none, or some of {', '.join(known)}, each once.{suggest(name, known)}"
            )
        given[name] = _number(name, value) if equals else _USUAL[name]
    return Augmentation(**given)


def _number(name: str, text: str) -> float:
    least, most = _RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ParameterError(f"augment: {name}={text}; wanted a number from {least} to {most}.")
    return value
