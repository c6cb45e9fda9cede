"""The counterfactual check: does covering what an odd strategy looks at change predictions, and more than chance?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from sightline.batch.audit.clusters import BORDER, Box
from sightline.batch.audit.content import widened
from sightline.batch.audit.pictures import Pictures
from sightline.batch.audit.reading import Maps
from sightline.batch.audit.strategies import Strategy
from sightline.covering import Region, cover, other_places, seen_region
from sightline.models.model import Model
from sightline.predictions import class_probabilities

__all__ = ["Check", "Flips", "checked"]

_PLACES = 4
_LEVEL = 0.01
_LEAST = 0.1
_TIMES = 2.0
_RIM = 0.08  # of a mark's sides: what is covered beyond it, so that no outline is left
_BLURRED = 0.25  # of a hot box: how far what is looked at may go on, whose surroundings are no neutral filling then
_FEWEST = 8


@dataclass(frozen=True)
class Flips:
    """Of how many changed pictures the model says something else than of the whole picture."""

    changed: int
    of: int

    @property
    def rate(self) -> float:
        """The share, NaN where there were none."""
        return self.changed / self.of if self.of else math.nan


@dataclass(frozen=True)
class Check:
    """What covering a strategy's place did, and for a mark what putting it on other images did, with the controls.

    ``here`` counts covered images that show the strategy, ``elsewhere`` the same with as much covered at other places,
    ``others`` images that do not show it with the same place covered. ``stamped`` counts images that do not show it
    which the model takes for the class once the mark is put on them, ``blank`` the same with that place of another
    image that does not show it.

    ``p`` is the larger of two one-sided tests of covering: the sign test of each image against its own other places,
    and Fisher's exact test against the other images. ``p_stamped`` is Fisher's of stamping. Both are times two for the
    two ways, times the number of clusters that were looked at. ``moved`` counts images of which the model says
    something else now than the store has.
    """

    here: Flips
    elsewhere: Flips
    others: Flips
    stamped: Flips
    blank: Flips
    p: float
    p_stamped: float
    moved: int

    @property
    def covering(self) -> bool:
        """Whether covering the place changes predictions more often than the controls do."""
        return self.p < _LEVEL and _more(self.here, self.elsewhere, self.others)

    @property
    def stamping(self) -> bool:
        """Whether the mark makes other images the class, and more often than any patch does."""
        return self.p_stamped < _LEVEL and _more(self.stamped, self.blank)

    @property
    def verdict(self) -> Literal["shortcut", "no effect", "too few"]:
        """``shortcut`` where either does."""
        if self.covering or self.stamping:
            return "shortcut"
        return "no effect" if self.here.of >= _FEWEST and (self.elsewhere.of or self.others.of) else "too few"


def _more(here: Flips, *controls: Flips) -> bool:
    usual = max((f.rate for f in controls if f.of), default=math.nan)
    return here.of >= _FEWEST and here.rate >= max(_LEAST, _TIMES * usual) and not math.isnan(usual)


@dataclass(frozen=True)
class _Answer:
    """What became of one image: whether covering the place, and each of other places, changed what the model says."""

    row: int
    before: int
    here: bool
    elsewhere: tuple[bool, ...]


def checked(
    model: Model,
    maps: Maps,
    strategy: Strategy,
    pictures: Pictures,
    *,
    most: int,
    tries: int,
    seed: int,
    step: Callable[[int], None],
) -> Check:
    """Cover the strategy's place in so many of its images and of others, and count the predictions that change."""
    rng = np.random.default_rng(seed)
    own = list(_covered(model, strategy, pictures, rng.permutation(strategy.rows), most, step))
    others = np.setdiff1d(_others(maps, strategy), strategy.rows)
    rest = list(_covered(model, strategy, pictures, rng.permutation(others), most, step, places=0))
    said = int(np.bincount(maps.prediction[strategy.rows].clip(min=0)).argmax())
    here = Flips(sum(a.here for a in own), len(own))
    elsewhere = Flips(sum(sum(a.elsewhere) for a in own), sum(len(a.elsewhere) for a in own))
    same = Flips(sum(a.here for a in rest), len(rest))
    p = _p_value(own, here, same)
    moved = int(sum(a.before != maps.prediction[a.row] for a in (*own, *rest)))
    stamped, blank = _stamped(model, strategy, pictures, [a.row for a in rest if a.before != said], said)
    p, p_stamped = (min(1.0, 2 * tries * found) for found in (p, _fisher(stamped, blank)))
    return Check(here, elsewhere, same, stamped, blank, p, p_stamped, moved)


def _others(maps: Maps, strategy: Strategy) -> np.ndarray:
    """Return the rows of other classes, or where all are one group, of all that do not show the strategy."""
    rest = np.flatnonzero(maps.group != strategy.group)
    return rest if len(rest) else np.arange(len(maps.group)) if len(maps.labels) == 1 else rest


def _p_value(own: Sequence[_Answer], here: Flips, others: Flips) -> float:
    from scipy.stats import binomtest

    gaps = [a.here - float(np.mean(a.elsewhere)) for a in own if a.elsewhere]
    more, less = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    found = [float(binomtest(more, more + less, alternative="greater").pvalue)] if more + less else []
    found += [_fisher(here, others)] if others.of and here.of else []
    return max(found, default=1.0)


def _fisher(here: Flips, others: Flips) -> float:
    from scipy.stats import fisher_exact

    if not (here.of and others.of):
        return 1.0
    table = [[f.changed, f.of - f.changed] for f in (here, others)]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _covered(
    model: Model,
    strategy: Strategy,
    pictures: Pictures,
    rows: np.ndarray,
    most: int,
    step: Callable[[int], None],
    places: int = _PLACES,
) -> Iterator[_Answer]:
    """Yield what becomes of the first images that can be read, no more than ``most``."""
    for row in pictures.some(rows, most)[0]:
        pixels = pictures.get(row)
        if pixels is None:
            continue
        changed = list(_changed(model, strategy, pixels, places, row))
        before, here, *elsewhere = class_probabilities(model, [pixels, *changed]).argmax(1).tolist()
        step(1)
        yield _Answer(row, before, here != before, tuple(e != before for e in elsewhere))


def _changed(model: Model, strategy: Strategy, pixels: np.ndarray, places: int, seed: int) -> Iterator[Image.Image]:
    """Yield the picture with the strategy's place covered, then with other places of the same size."""
    if strategy.kinds[0] == "border":
        inner = in_pixels((BORDER, BORDER, 1 - BORDER, 1 - BORDER), pixels)
        yield cover(pixels, inner, "inpaint", reveal=True)
        if places:
            yield cover(pixels, in_pixels(_middle_box(), pixels), "inpaint")
        return
    box = in_pixels(widened(strategy.box, _RIM if strategy.mark else _BLURRED), pixels)
    for place in (box, *(other_places(box, seen_region(model, pixels), places, seed) if places else ())):
        yield _smoothed(pixels, place) if strategy.mark else cover(pixels, place)


def _smoothed(pixels: np.ndarray, box: Region) -> Image.Image:
    """Return the picture with a box filled from its nearest surroundings, which are all that is worked on."""
    high, wide = pixels.shape[:2]
    near = in_pixels(widened((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high)), pixels)
    left, top = near[:2]
    part = pixels[top : near[3], left : near[2]]
    found = Image.fromarray(pixels)
    found.paste(cover(part, (box[0] - left, box[1] - top, box[2] - left, box[3] - top), "inpaint"), (left, top))
    return found


def _middle_box() -> Box:
    """Return the box in the middle that is as large as the border."""
    half = (1 - (1 - 2 * BORDER) ** 2) ** 0.5 / 2
    return 0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half


def in_pixels(box: Box, pixels: np.ndarray) -> Region:
    """Return a box in shares of the picture in its pixels, one at least."""
    high, wide = pixels.shape[:2]
    left, top = min(int(box[0] * wide), wide - 1), min(int(box[1] * high), high - 1)
    return left, top, max(left + 1, math.ceil(box[2] * wide - 1e-6)), max(top + 1, math.ceil(box[3] * high - 1e-6))


def _stamped(
    model: Model, strategy: Strategy, pictures: Pictures, rows: Sequence[int], said: int
) -> tuple[Flips, Flips]:
    """Count the images that become the class once they get the mark of another image, or that place of one without."""
    if strategy.mark is None or not rows:
        return Flips(0, 0), Flips(0, 0)
    donors = pictures.some(strategy.rows, len(rows))[1]
    shown = [p for p in map(pictures.get, rows) if p is not None]
    box, marked, plain = widened(strategy.box, _RIM), 0, 0
    for number, pixels in enumerate(shown):
        patches = donors[number % len(donors)], shown[number - 1]
        put = [_with_patch(pixels, patch, box) for patch in patches]
        with_mark, without = (class_probabilities(model, put).argmax(1) == said).tolist()
        marked, plain = marked + with_mark, plain + without
    return Flips(marked, len(shown)), Flips(plain, len(shown))


def _with_patch(pixels: np.ndarray, donor: np.ndarray, box: Box) -> np.ndarray:
    """Return a picture (H, W, 3) with a box of another in its place."""
    left, top, right, bottom = in_pixels(box, pixels)
    patch = Image.fromarray(donor).crop(in_pixels(box, donor)).resize((right - left, bottom - top))
    found = pixels.copy()
    found[top:bottom, left:right] = np.asarray(patch)
    return found
