"""Owen values: Shapley values for positions that first join their half of the image, then its half, and so on."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from torch import Tensor

from sightline.masks import Place
from sightline.methods.perturbation import Fill, covering, nothing_of
from sightline.methods.registry import Range, method
from sightline.recording import Recording
from sightline.searches import Search, side_by_side

__all__ = ["owen"]

_AT_ONCE = 16

_Heap: TypeAlias = list[tuple[float, int, "_Part"]]


@method(
    family="perturbation",
    cite="Owen 1977, Values of games with a priori unions; Lundberg & Lee 2017, arXiv:1705.07874 (SHAP's partition)",
    reads="scores",
)
def owen(rec: Recording, evaluations: Annotated[int, Range(2)] = 500, fill: Fill = "zero") -> Tensor:
    """Owen values of positions over halves of halves of the image, which add up to f(x) - f(covered).

    Each part's gain is shared by its two halves, with and without the other half, where most is to be shared first.
    ``evaluations`` forward passes; what they do not reach is spread evenly over its part.
    """
    cover = covering(rec, fill)
    full, empty = rec.scores.double().cpu(), next(rec.scores_at([cover(nothing_of(rec))])).double().cpu()
    size = tuple(rec.x.shape[2:])
    searches = [_shared(size, float(e), float(f), evaluations) for e, f in zip(empty, full, strict=True)]
    kept = torch.ones(size, device=rec.x.device)
    values = torch.stack(side_by_side(searches, lambda keeps: rec.scores_at(map(cover, keeps)), kept))
    rec.promise(values, full - empty)
    return values.to(rec.x)


@dataclass(frozen=True)
class _Part:
    """A part of the image, what else is kept, the scores without and with it, and how much this case counts."""

    place: Place
    context: tuple[Place, ...]
    without: float
    joined: float
    weight: float

    @property
    def gain(self) -> float:
        return (self.joined - self.without) * self.weight

    @property
    def positions(self) -> int:
        return math.prod(s.stop - s.start for s in self.place)

    def halves(self) -> tuple[Place, Place]:
        """Cut the longest side in the middle."""
        sides = [s.stop - s.start for s in self.place]
        axis = sides.index(max(sides))
        whole = self.place[axis]
        middle = whole.start + sides[axis] // 2
        cut = slice(whole.start, middle), slice(middle, whole.stop)
        first, second = ((*self.place[:axis], half, *self.place[axis + 1 :]) for half in cut)
        return first, second

    def keeps(self, size: tuple[int, ...]) -> list[Tensor]:
        """Return what is kept with the context and the one or the other half: (*S) each."""
        return [_kept((*self.context, half), size) for half in self.halves()]

    def shared(self, first: float, second: float) -> list[_Part]:
        """Share the gain, given the scores with only the first and only the second half."""
        a, b = self.halves()
        weight = self.weight / 2
        return [
            _Part(a, self.context, self.without, first, weight),
            _Part(b, self.context, self.without, second, weight),
            _Part(a, (*self.context, b), second, self.joined, weight),
            _Part(b, (*self.context, a), first, self.joined, weight),
        ]


def _kept(places: tuple[Place, ...], size: tuple[int, ...]) -> Tensor:
    keep = torch.zeros(size)
    for place in places:
        keep[place] = 1
    return keep


def _shared(size: tuple[int, ...], empty: float, full: float, evaluations: int) -> Search[Tensor]:
    """Search one image: share out the largest gains until no evaluation is left, and return the values (*S)."""
    values = torch.zeros(size, dtype=torch.float64)
    whole = _Part(tuple(slice(0, side) for side in size), (), empty, full, 1.0)
    heap: _Heap = []
    made = _sorted_in([whole], heap, values, 0)
    left = evaluations // 2
    while heap and left:
        parts = [heapq.heappop(heap)[2] for _ in range(min(_AT_ONCE, left, len(heap)))]
        left -= len(parts)
        scores = yield torch.stack([keep for part in parts for keep in part.keeps(size)])
        for part, (first, second) in zip(parts, scores.reshape(-1, 2).tolist(), strict=True):
            made = _sorted_in(part.shared(first, second), heap, values, made)
    for _, _, part in heap:
        values[part.place] += part.gain / part.positions
    return values


def _sorted_in(parts: list[_Part], heap: _Heap, values: Tensor, made: int) -> int:
    """Give single positions their gain and put the others in line, the largest gain first."""
    for part in parts:
        if part.positions == 1:
            values[part.place] += part.gain
        else:  # rounded, so that what is equal but for rounding keeps its order in any batch
            heapq.heappush(heap, (-float(f"{abs(part.gain):.4g}"), made, part))
            made += 1
    return made
