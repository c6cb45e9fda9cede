"""Ask a model what changes when a region of the picture is covered, or when nothing else is shown.

An explanation says that a region matters. Here the region is taken away in the picture itself, before any
preprocessing, and the answer is compared with what other regions of the same size do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from sightline.errors import ParameterError
from sightline.explanation import Explanation
from sightline.images import read_image
from sightline.inpainting import inpaint
from sightline.models.load import load
from sightline.models.model import Model
from sightline.predictions import class_probabilities

__all__ = [
    "FILLS",
    "Region",
    "RegionAnswer",
    "RegionFill",
    "ask_region",
    "cover",
    "heat_share",
    "hottest_box",
    "other_places",
    "percent",
    "seen_region",
]

Region: TypeAlias = tuple[int, int, int, int]
"""A box in pixels: left, top, right, bottom (exclusive)."""

RegionFill = Literal["mean", "blur", "black", "grey", "noise", "inpaint"]
FILLS: tuple[RegionFill, ...] = get_args(RegionFill)

_LEVELS = {"black": 0, "grey": 127}
_BLUR = 0.1  # of the longer side, as the fills of methods and metrics have it
_INPAINTED = 384  # pixels of the longer side: what is filled in is smooth, so no more are needed
_CANDIDATES = 512
_NOTICEABLE = 0.05


def cover(image: Any, box: Region, fill: RegionFill = "mean", *, reveal: bool = False, seed: int = 0) -> Image.Image:
    """Return the picture (RGB, its own size) with a box covered, or with ``reveal`` all but the box.

    ``image`` is a path, PIL image or array. ``fill`` is the picture's mean colour, the picture blurred by a tenth of
    its longer side, black, mid-grey, grey noise drawn by ``seed``, or the surroundings continued smoothly (inpaint).
    Raises ImageError for what is no picture, ParameterError for another fill or a box that is not within it.

    >>> white = np.full((4, 4, 3), 255, np.uint8)
    >>> np.asarray(cover(white, (0, 0, 2, 4), "black"))[0, :, 0].tolist()
    [0, 0, 255, 255]
    """
    pixels = read_image(image).pixels
    gone = _within(pixels, box) != reveal
    return Image.fromarray(np.where(gone[..., None], _filling(pixels, gone, fill, seed), pixels))


def _within(pixels: np.ndarray, box: Region) -> np.ndarray:
    """Return where the box lies, bool (H, W)."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ParameterError(
            f"the box {tuple(box)} is not within the picture of {width}x{height} pixels; wanted left, top, right, "
            "bottom with left < right and top < bottom."
        )
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    return inside


def _filling(pixels: np.ndarray, gone: np.ndarray, fill: RegionFill, seed: int) -> np.ndarray:
    """Return what is put there, uint8 that broadcasts to the pixels (H, W, 3)."""
    if fill not in FILLS:
        raise ParameterError(f"fill={fill!r}; wanted one of {', '.join(FILLS)}.")
    if fill == "mean":
        return np.asarray(np.rint(pixels.mean((0, 1))), np.uint8)
    if fill == "blur":
        radius = _BLUR * max(pixels.shape[:2])
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    if fill == "noise":
        return np.asarray(np.random.default_rng(seed).integers(0, 256, (*gone.shape, 1), dtype=np.uint8))
    if fill == "inpaint":
        return _inpainted(pixels, gone)
    return np.full(3, _LEVELS[fill], np.uint8)


def _inpainted(pixels: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Continue what is left smoothly; a small pixel is only known where all of it is left."""
    height, width = gone.shape
    scale = min(1.0, _INPAINTED / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    known = np.array(Image.fromarray(np.where(gone, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)) == 255
    x = torch.from_numpy(small).permute(2, 0, 1)[None].float()
    filled = inpaint(x, torch.from_numpy(known)[None, None])[0].permute(1, 2, 0)
    back = Image.fromarray(filled.round().clamp(0, 255).to(torch.uint8).numpy())
    return np.asarray(back.resize((width, height), Image.Resampling.BICUBIC))


def other_places(box: Region, within: Region, draws: int = 8, seed: int = 0) -> list[Region]:
    """Return up to ``draws`` boxes of the same size elsewhere within a region, apart from it and from one another.

    Where there is no room, they overlap as little as 512 random places allow, but never more than half of the box;
    where the box is too large even for that there are fewer, or none.

    >>> other_places((0, 0, 2, 2), (0, 0, 4, 2), draws=1)
    [(2, 0, 4, 2)]
    """
    size = np.array([box[2] - box[0], box[3] - box[1]])
    low, high = np.array(within[:2]), np.array(within[2:]) - size
    if (high < low).any():
        return []
    rng = np.random.default_rng(seed)
    corners = rng.permutation(np.unique(rng.integers(low, high + 1, (_CANDIDATES, 2)), axis=0))
    own = _overlaps(corners, np.array(box[:2]), size)
    corners, cost = corners[own <= 0.5], draws * own[own <= 0.5]
    found: list[Region] = []
    for _ in range(min(draws, len(corners))):
        best = int(cost.argmin())
        left, top = corners[best].tolist()
        found.append((left, top, left + int(size[0]), top + int(size[1])))
        cost = cost + _overlaps(corners, corners[best], size)
        cost[best] = np.inf
    return found


def _overlaps(corners: np.ndarray, corner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return what share of a box at one corner boxes of its size at others (N, 2) cover."""
    return np.asarray(np.clip(size - np.abs(corners - corner), 0, None).prod(1) / size.prod())


@dataclass(frozen=True, eq=False)
class RegionAnswer:
    """What became of a model's answer: probabilities of all classes (K,) before and after, and those elsewhere.

    ``others`` are the probabilities of the class that is asked about with the same box at ``places``; ``image`` is
    the picture that the model was given; ``box`` and ``places`` are in its pixels.
    """

    box: Region
    fill: RegionFill
    reveal: bool
    index: int
    label: str
    before: np.ndarray
    after: np.ndarray
    places: Sequence[Region]
    others: np.ndarray
    image: Image.Image

    @property
    def was(self) -> float:
        """The probability of the class for the whole picture."""
        return float(self.before[self.index])

    @property
    def now(self) -> float:
        """The probability of the class for the changed picture."""
        return float(self.after[self.index])

    @property
    def change(self) -> float:
        """By how much the probability changed, -1 to 1."""
        return self.now - self.was

    @property
    def elsewhere(self) -> float:
        """The mean probability with the same box at other places; NaN where there are none."""
        return float(self.others.mean()) if len(self.others) else float("nan")

    @property
    def matters(self) -> bool:
        """Say whether the region is missed when covered, or enough when shown alone; 0.05 more or less do not count."""
        return self.now >= self.was - _NOTICEABLE if self.reveal else self.change < -_NOTICEABLE

    @property
    def special(self) -> bool | None:
        """Say whether few other places of its size do as much as the region; None where none were tried."""
        if not len(self.others):
            return None
        return _as_much(self) <= len(self.others) // 4

    @property
    def words(self) -> str:
        """What happened, as a sentence."""
        return _revealed(self) if self.reveal else _covered(self)

    @property
    def control(self) -> str:
        """How that compares with other places of the same size, as a sentence."""
        if not len(self.others):
            return "The box is too large to be put elsewhere, so there is nothing to compare it with."
        low, mean, high = (percent(v) for v in (self.others.min(), self.elsewhere, self.others.max()))
        what = "showing one alone" if self.reveal else "covering one"
        said = (
            f"{len(self.others)} other places of this size: {what} leaves “{self.label}” at {mean} ({low} to {high})."
        )
        return f"{said} {_ranked(self)}".strip()


def _covered(a: RegionAnswer) -> str:
    was, now = percent(a.was), percent(a.now)
    if a.change > _NOTICEABLE:
        return f"Without this region “{a.label}” rises from {was} to {now}: the region speaks against it."
    if a.change >= -_NOTICEABLE:
        little = ", but there was little to lose" if a.was <= 2 * _NOTICEABLE else ": the model does without it"
        return f"Without this region “{a.label}” hardly changes ({was} to {now}){little}."
    if a.special is False:
        return f"Without this region “{a.label}” falls from {was} to {now}, as without other places of its size."
    most = a.now < 0.5 * a.was
    return f"Without this region “{a.label}” falls from {was} to {now}: the model {'needs' if most else 'uses'} it."


def _revealed(a: RegionAnswer) -> str:
    share = f"{percent(a.now)} (the whole picture: {percent(a.was)})"
    if a.now >= a.was - _NOTICEABLE:
        return f"With this region alone “{a.label}” has {share}: the region is enough."
    part = "a part of the reason" if a.now >= 0.5 * a.was else "not enough"
    return f"With this region alone “{a.label}” has {share}: the region is {part}."


def _ranked(a: RegionAnswer) -> str:
    """Say whether other places do as much, where the region does anything."""
    if not (a.reveal or a.matters):
        return ""
    as_much = _as_much(a)
    if not as_much:
        return "None of them does as much, so it is the place that counts and not only the size."
    said = f"{as_much} of {len(a.others)} do{'es' if as_much == 1 else ''} as much or more"
    return f"{said}." if a.special else f"{said}, so this place is nothing special."


def _as_much(a: RegionAnswer) -> int:
    """Return at how many other places the same box does as much as at the region."""
    return int((a.others >= a.now).sum() if a.reveal else (a.others <= a.now).sum())


def percent(share: float) -> str:
    """Return a probability as text, and never 0 % or 100 % for one that is neither.

    >>> [percent(p) for p in (0.5, 0.031, 0.9996, 0.0002)]
    ['50 %', '3.1 %', '>99.9 %', '<0.1 %']
    """
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{share:.0%}".replace("%", " %") if 0.1 <= share <= 0.9 else f"{100 * share:.1f} %"


def ask_region(
    model: Model | nn.Module | str,
    image: Any,
    box: Region,
    target: str | int = "top1",
    *,
    fill: RegionFill = "mean",
    reveal: bool = False,
    draws: int = 8,
    seed: int = 0,
    tick: Callable[[int], None] | None = None,
) -> RegionAnswer:
    """Cover a region of the picture, or show nothing else, and compare the answer with that for other regions.

    ``box`` is in the original's pixels, ``target`` a class: top1, an index or a label. ``draws`` boxes of the same
    size are covered (shown) elsewhere, where the model sees the picture; 0 leaves them out. 2 + ``draws`` forward
    passes; ``tick`` is called with the number of pictures after each. Raises what `cover` and `predict` raise,
    TargetError for no such class.

    >>> from sightline.demo.scenes import scene
    >>> answer = ask_region("demo/honest", scene(0).image, (20, 20, 60, 60), draws=2)
    >>> len(answer.others), answer.image.size
    (2, (96, 96))
    """
    loaded = model if isinstance(model, Model) else load(model)
    pixels = read_image(image).pixels
    places = other_places(box, seen_region(loaded, pixels), draws, seed) if draws else []
    changed = (cover(pixels, place, fill, reveal=reveal, seed=seed) for place in (box, *places))
    shown = next(changed)
    before, after, *others = _each(loaded, chain((pixels, shown), changed), tick or _untold)
    index = int(before.argmax()) if target == "top1" else loaded.labels.find(target, len(before))
    elsewhere = np.array([row[index] for row in others])
    return RegionAnswer(box, fill, reveal, index, loaded.labels.name(index), before, after, places, elsewhere, shown)


def _each(model: Model, pictures: Iterable[Any], tick: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Yield the probabilities of one picture after the other, for many large ones would fill the memory."""
    for picture in pictures:
        yield class_probabilities(model, [picture])[0]
        tick(1)


def _untold(_: int) -> None: ...


def seen_region(model: Model, image: Any) -> Region:
    """Return the box of the picture that the model sees, in its pixels: a centre crop cuts the rest off."""
    picture = model.read(image)
    geometry = model.prepare(picture)[1]
    height, width = geometry.tensor
    left, top, right, bottom = geometry.box_to_original((0, 0, width, height))
    high, wide = picture.size
    return max(0, int(np.ceil(left))), max(0, int(np.ceil(top))), min(wide, int(right)), min(high, int(bottom))


def hottest_box(e: Explanation, area: float = 0.1) -> Region | None:
    """Return the box of that share of the picture, in its proportions, that holds most of what speaks for the target.

    None where nothing does. Unlike `Explanation.boxes` its size is given, so maps of any grain are asked alike.
    Raises ParameterError for an area outside (0, 1] or a map that is not two-dimensional.
    """
    if not 0 < area <= 1 or e.heatmap.ndim != 2:
        raise ParameterError(
            f"area={area} of a map {e.heatmap.shape}: wanted a share above 0 and at most 1, and a map (H, W)."
        )
    heat = _positive(e)
    if not heat.any():
        return None
    high, wide = (max(1, round(side * area**0.5)) for side in heat.shape)
    sums = np.pad(heat.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    held = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = (int(i) for i in np.unravel_index(int(held.argmax()), held.shape))
    return left, top, left + wide, top + high


def _positive(e: Explanation) -> np.ndarray:
    return np.asarray(np.nan_to_num(e.heatmap, nan=0.0).clip(min=0), np.float64)


def heat_share(e: Explanation, box: Region) -> float:
    """Return how much of what speaks for the target lies in a box, 0 to 1; NaN where nothing does.

    A map that knows nothing has the box's share of the picture there.
    """
    heat, (left, top, right, bottom) = _positive(e), box
    total = float(heat.sum())
    return float(heat[top:bottom, left:right].sum()) / total if total > 0 else float("nan")
