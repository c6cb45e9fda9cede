"""SISE: what the image scores through the feature maps of several layers, put together from fine to coarse."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.methods.perturbation import Fill, covering, nothing_of
from sightline.methods.registry import Range, method
from sightline.methods.score_cam import mask_of, shaped, unit
from sightline.recording import Recording

__all__ = ["ada_sise", "otsu", "sise"]

Together = Literal["otsu", "product"]


@method(
    family="cam",
    cite="Sattarzadeh et al. 2021, arXiv:2010.00672, eq. 2-6",
    reads=("layer", "scores"),
    at="scores",
    style="sequential",
    fuses=True,
)
def sise(
    rec: Recording,
    threshold: Annotated[float, Range(0, 1)] = 0.0,
    fill: Fill = "zero",
    centre: bool = True,
    fuse: Together = "otsu",
) -> Tensor:
    """What the image scores through each feature map, added up over maps of several layers and fused, from 0 to 1.

    Of each layer the maps count whose average gradient is above ``threshold`` times the largest; one forward pass
    for each. ``centre`` takes the covered image's score off: the paper, which explains probabilities
    (``output="probability"``), does not. Layers: the last of each size. ``fuse`` adds the next coarser layer and
    multiplies by it, or by 1 where it is above its Otsu threshold and 0 elsewhere.
    """
    return _sise(rec, lambda average: average > threshold * average.amax(1, keepdim=True), fill, centre, fuse)


@method(
    family="cam",
    cite="Sudhakar et al. 2021, arXiv:2102.07799 (Ada-SISE)",
    reads=("layer", "scores"),
    at="scores",
    style="sequential",
    fuses=True,
)
def ada_sise(rec: Recording, fill: Fill = "zero", centre: bool = True, fuse: Together = "otsu") -> Tensor:
    """SISE with only the feature maps whose average gradient is above the Otsu threshold of the positive ones."""
    return _sise(rec, _above_otsu, fill, centre, fuse)


def _sise(rec: Recording, select: Callable[[Tensor], Tensor], fill: Fill, centre: bool, fuse: Together) -> Tensor:
    cover = covering(rec, fill)
    empty = next(rec.scores_at([cover(nothing_of(rec))])) if centre else torch.zeros_like(rec.scores)
    seen = []
    for layer in rec.layers:
        average = rec.gradient(layer).flatten(2).mean(2)
        chosen = select(average) & (average > 0)
        masks, again = itertools.tee(_masks(rec.activation(layer), average, chosen, tuple(rec.x.shape[2:])))
        seen.append(_visualised(again, rec.scores_at(map(cover, masks)), empty, rec.x))
    return functools.reduce(_FUSED[fuse], seen)


def _masks(maps: Tensor, average: Tensor, chosen: Tensor, size: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield each image's chosen maps (N, *S) as masks, the largest average gradient first, 0 where it has no more."""
    order = average.where(chosen, -torch.inf).argsort(dim=1, descending=True, stable=True)
    counts, rows = chosen.sum(1), torch.arange(len(maps), device=maps.device)
    for i in range(int(counts.max())):
        yield mask_of(maps[rows, order[:, i]], size) * shaped(i < counts, maps[:, 0])


def _visualised(masks: Iterator[Tensor], scores: Iterator[Tensor], empty: Tensor, x: Tensor) -> Tensor:
    """Return the sum of score x mask / sum(mask), brought to 0 to 1 for each image: (N, *S)."""
    total = torch.zeros((len(x), *x.shape[2:]), dtype=torch.float64, device=x.device)
    for mask, score in zip(masks, scores, strict=True):
        size = mask.double().flatten(1).sum(1)
        total += shaped((score - empty).double() / size.clamp(min=1e-12), total) * mask
    return unit(total).to(x)


def _fuse_by_otsu(finer: Tensor, coarser: Tensor) -> Tensor:
    limit = torch.stack([otsu(row.flatten()) for row in coarser])
    return (finer + coarser) * (coarser > shaped(limit, coarser))


def _fuse_by_product(finer: Tensor, coarser: Tensor) -> Tensor:
    return (finer + coarser) * coarser


_FUSED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"otsu": _fuse_by_otsu, "product": _fuse_by_product}


def _above_otsu(average: Tensor) -> Tensor:
    return average > torch.stack([otsu(row[row > 0]) for row in average]).unsqueeze(1)


def otsu(values: Tensor) -> Tensor:
    """Return the threshold between the two classes of values (M,) that vary most between and least within, or 0.

    Without bins: halfway between two neighbours, so that rounding moves no value across.
    """
    ordered = values.double().sort().values
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return values.new_zeros(())
    total, below = ordered.sum(), ordered.cumsum(0)[:-1]
    low = torch.arange(1, len(ordered), dtype=torch.float64, device=values.device)
    high = len(ordered) - low
    between = (low * high) * (below / low - (total - below) / high) ** 2
    best = int(between.argmax())
    return ((ordered[best] + ordered[best + 1]) / 2).to(values)
