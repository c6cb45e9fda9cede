"""Methods that cover parts of the image and look at the score only: any function that gives scores will do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor

from sightline.inpainting import inpaint
from sightline.masks import Place, Segments, random_masks, segments_of, windows
from sightline.methods.gradient import of_rows
from sightline.methods.registry import Range, method
from sightline.points import Baseline, baseline_of
from sightline.recording import Recording

__all__ = ["feature_ablation", "occlusion", "rise"]

Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Fill: TypeAlias = Baseline | Literal["inpaint"]
Cover: TypeAlias = Callable[[Tensor], Tensor]

_LEAST_SAMPLES = 50  # before the standard error is believed
_TOGETHER = 25  # masks that are added up at once


def covering(rec: Recording, fill: Fill) -> Cover:
    """Return what covers the images, a function of what is kept: (N, *S) or (*S), 1 where the image stays.

    "inpaint" continues what is kept, so it depends on what is covered: here all that is kept by half or less.
    """
    if isinstance(fill, str) and fill == "inpaint":
        return lambda keep: covered(rec.x, inpaint(rec.x, _mask(keep, rec.x) > 0.5), keep)
    base = fill_of(rec, fill)
    return lambda keep: covered(rec.x, base, keep)


def fill_of(rec: Recording, fill: Baseline) -> Tensor:
    """Return what takes the place of what is covered, whatever that is: (N, C, *S)."""
    return baseline_of(of_rows(fill, rec), rec.x, rec.model.preprocessing, rec.seed)


def nothing_of(rec: Recording) -> Tensor:
    """Return what is kept where all is covered: (*S)."""
    return torch.zeros(rec.x.shape[2:], device=rec.x.device)


def covered(x: Tensor, base: Tensor, keep: Tensor) -> Tensor:
    """Blend images with what covers them: ``keep`` (N, *S) or (*S) is 1 where the image stays."""
    return torch.lerp(base, x, _mask(keep, x))


def _mask(keep: Tensor, x: Tensor) -> Tensor:
    return (keep.unsqueeze(1) if keep.ndim == x.ndim - 1 else keep.expand(1, 1, *keep.shape)).to(x)


@method(family="perturbation", cite="Zeiler & Fergus 2014, arXiv:1311.2901, sec. 4.2", reads="scores")
def occlusion(
    rec: Recording,
    window: Annotated[float, Range(0.001)] = 0.15,
    stride: Annotated[float, Range(0.001)] = 0.075,
    fill: Fill = "zero",
) -> Tensor:
    """The score's drop when a window is covered, averaged over the windows that cover a position.

    Below 1, ``window`` and ``stride`` are shares of each side, else pixels. One forward pass for each window.
    """
    cover, score = covering(rec, fill), rec.scores.double()
    places = windows(rec.x.shape[2:], window, stride)
    total = torch.zeros(len(rec.x), *rec.x.shape[2:], dtype=torch.float64, device=rec.x.device)
    count = torch.zeros_like(total[0])
    for place, found in zip(places, rec.scores_at(_with_windows(cover, rec.x, places)), strict=True):
        total[(slice(None), *place)] += (score - found).reshape(-1, *[1] * len(place))
        count[place] += 1
    return (total / count).to(rec.x)


def _with_windows(cover: Cover, x: Tensor, places: list[Place]) -> Iterator[Tensor]:
    for place in places:
        keep = torch.ones(x.shape[2:], device=x.device)
        keep[place] = 0
        yield cover(keep)


@method(family="perturbation", cite="Kokhlikyan et al. 2020, arXiv:2009.07896 (feature ablation)", reads="scores")
def feature_ablation(rec: Recording, segments: Segments = "grid", count: Count = 64, fill: Fill = "zero") -> Tensor:
    """The score's drop when a segment is covered, shown on all of the segment.

    ``segments`` is a grid of about ``count`` cells, as many SLIC superpixels, or numbers (*S). One pass for each.
    """
    cover, labels = covering(rec, fill), segments_of(segments, count, rec.x)
    found = torch.zeros(labels.shape, dtype=torch.float64, device=rec.x.device)
    points = (cover(labels != i) for i in range(int(labels.max()) + 1))
    for i, score in enumerate(rec.scores_at(points)):
        drop = (rec.scores.double() - score).reshape(-1, *[1] * (labels.ndim - 1))
        found = torch.where(labels == i, drop, found)
    return found.to(rec.x)


@method(family="perturbation", cite="Petsiuk et al. 2018, arXiv:1806.07421, eq. 6", reads="scores")
def rise(
    rec: Recording,
    samples: Count = 500,
    cells: Count = 7,
    keep: Annotated[float, Range(0.001, 1)] = 0.5,
    fill: Fill = "zero",
    centre: bool = True,
    resized: bool = False,
    tolerance: Share = 0.0,
) -> Tensor:
    """How much the score rises where random smooth masks let the image through: sum_i (f(x m_i) - mean) m_i / (N keep).

    ``centre=False`` leaves the mean score in, as the paper does: the same ranking, more noise. ``resized`` makes the
    masks as system 001 did. With ``tolerance`` it stops once the standard error is that share of the map's range.
    """
    cover, size = covering(rec, fill), rec.x.shape[2:]
    masks, again = itertools.tee(random_masks(size, cells, keep, samples, rec.seed, resized=resized))
    sums, pairs = _Moments(rec), zip(again, rec.scores_at(map(cover, masks)), strict=True)
    while some := list(itertools.islice(pairs, _TOGETHER)):
        sums.add(*map(torch.stack, zip(*some, strict=True)))
        if tolerance and sums.enough(tolerance):
            break
    if tolerance:
        rec.note(stopped(sums.count, samples, sums.enough(tolerance)))
    rec.sampled(sums.error(centre, keep).to(rec.x).unsqueeze(1))
    found: Tensor = sums.mean(centre, keep).to(rec.x).unflatten(1, size)
    return found


def stopped(count: int, samples: int, enough: bool) -> str:
    """Say after how many samples a sweep with a tolerance came to its end."""
    reached = "the tolerance was reached" if enough else "the tolerance was not reached: take more samples"
    return f"{count} of at most {samples} samples were taken; {reached}"


class _Moments:
    """Running sums (N, P) over masks m (P positions) and scores s (N,) of s^a m^b, a and b up to 2, in float64."""

    def __init__(self, rec: Recording) -> None:
        zero = torch.zeros((len(rec.x), rec.x[0, 0].numel()), dtype=torch.float64, device=rec.x.device)
        self.count = 0
        self.sums = {(a, b): zero.clone() for a in range(3) for b in range(3)}

    def add(self, masks: Tensor, scores: Tensor) -> None:
        """Add masks (K, *S) and their scores (K, N)."""
        m, s = masks.to(self.sums[0, 0]).flatten(1), scores.to(self.sums[0, 0])
        self.count += len(masks)
        for (a, b), total in self.sums.items():
            total += (s**a).T @ (m**b if b else torch.ones_like(m[:, :1]))

    def mean(self, centre: bool, keep: float) -> Tensor:
        """Return the mean over masks of (s - c) m / keep, c the mean score or 0: (N, *S)."""
        c, _ = self._centres(centre)
        return (self._of(1, 1) - c * self._of(0, 1)) / keep

    def error(self, centre: bool, keep: float) -> Tensor:
        """Return the standard error of that mean, which is that of the mean of (s - c) (m - d)."""
        c, d = self._centres(centre)
        square = sum(
            (1, -2, 1)[a] * (1, -2, 1)[b] * c**a * d**b * self._of(2 - a, 2 - b) for a in range(3) for b in range(3)
        )
        variance = (square / keep**2 - self.mean(centre, keep) ** 2).clamp(min=0)
        return (variance / max(1, self.count - 1)).sqrt()

    def enough(self, tolerance: float) -> bool:
        """Say whether the standard error is small enough for every image, as a share of its map's range."""
        if self.count < _LEAST_SAMPLES:
            return False
        values = self.mean(True, 1.0)
        spread = values.amax(1) - values.amin(1)
        return bool((self.error(True, 1.0).mean(1) <= tolerance * spread).all())

    def _of(self, a: int, b: int) -> Tensor:
        return self.sums[a, b] / self.count

    def _centres(self, centre: bool) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(self.sums[0, 0])
        return (self._of(1, 0), self._of(0, 1)) if centre else (zero, zero)
