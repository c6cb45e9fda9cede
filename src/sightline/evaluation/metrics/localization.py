"""Localisation: does the map lie where the object is? What speaks against the class does not count.

NaN where no object is marked, or where nothing of the map is positive.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation.case import Case
from sightline.evaluation.registry import metric
from sightline.schema import Range

Share = Annotated[float, Range(0, 1)]
Box: TypeAlias = tuple[slice, ...]


def _shown(case: Case) -> tuple[Tensor, Tensor]:
    """Return the maps' positive parts and where the objects are, both (N, P), on the CPU."""
    return _positive(case).flatten(1), _truth(case).flatten(1)


def _positive(case: Case) -> Tensor:
    return case.maps.clamp(min=0).double().cpu()


def _truth(case: Case) -> Tensor:
    if case.truth is None:
        raise InputError("it compares maps with where the object is; give boxes or masks (--boxes FILE, truth=).")
    return case.truth.bool().cpu()


def _defined(positive: Tensor, truth: Tensor, values: Tensor) -> Tensor:
    return torch.where(truth.any(1) & (positive > 0).any(1), values, torch.nan)


@metric(
    family="localization",
    better="higher",
    cite="Zhang et al. 2018, arXiv:1608.00507 (pointing game)",
    needs="truth",
)
def pointing_game(case: Case, tolerance: Annotated[float, Range(0)] = 0.03) -> Tensor:
    """Whether the map's largest value lies on the object, or within ``tolerance`` of it: 1 or 0.

    Below 1, ``tolerance`` is a share of the input's longer side, else pixels: 0.03 is the usual 15 pixels of a photo
    500 wide. Where several values are the largest, the share of them that hit. Objects in the middle are hit by
    ``centre`` too.
    """
    pixels = tolerance * max(case.maps.shape[1:]) if tolerance < 1 else tolerance
    near = torch.stack([_grown(one, pixels) for one in _truth(case)]).flatten(1)
    positive, truth = _shown(case)
    largest = positive == positive.amax(1, keepdim=True)
    return _defined(positive, truth, (largest & near).sum(1).double() / largest.sum(1))


def _grown(truth: Tensor, pixels: float) -> Tensor:
    """Return the positions (*S) at most so many pixels, in a straight line, from the marked ones."""
    from scipy import ndimage

    if not pixels or not truth.any():
        return truth
    return torch.as_tensor(ndimage.distance_transform_edt(~truth.numpy()) <= pixels)


@metric(
    family="localization",
    better="higher",
    cite="Wang et al. 2020, arXiv:1910.01279 (energy-based pointing game); Arras et al. 2022, "
    "arXiv:2003.07258 (relevance mass); weighted: Kohlbrenner et al. 2020, arXiv:1910.09840 (attribution localisation)",
    needs="truth",
)
def energy_pointing_game(case: Case, weighted: bool = False) -> Tensor:
    """The share of the map's positive part that lies on the object, from 0 to 1.

    A map that is the same everywhere has the object's share of the image: ``weighted`` divides by that, so 1 is chance.
    """
    positive, truth = _shown(case)
    share = (positive * truth).sum(1) / positive.sum(1)
    area = truth.double().mean(1) if weighted else torch.ones(len(truth), dtype=torch.float64)
    return _defined(positive, truth, share / area)


@metric(
    family="localization",
    better="higher",
    cite="Arras et al. 2022, arXiv:2003.07258 (relevance rank accuracy)",
    needs="truth",
)
def relevance_rank(case: Case) -> Tensor:
    """The share of the map's K largest values that lie on the object, K its area: from 0 to 1.

    Of values that are equal at the K-th place the share that a random choice would have counts.
    """
    positive, truth = _shown(case)
    return _defined(positive, truth, _best_on(positive, truth, truth.sum(1)))


@metric(
    family="localization",
    better="higher",
    cite="Theiner et al. 2022, arXiv:2104.14995 (top-k intersection)",
    needs="truth",
)
def top_k_intersection(case: Case, share: Share = 0.02) -> Tensor:
    """The share of the map's largest values (``share`` of all positions) that lie on the object: from 0 to 1.

    0.02 of 224 x 224 are 1000 positions. An object that is smaller cannot reach 1. Equal values as in relevance_rank.
    """
    positive, truth = _shown(case)
    count = max(1, round(share * truth.shape[1]))
    return _defined(positive, truth, _best_on(positive, truth, torch.full((len(truth),), count)))


def _best_on(values: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Return the expected share (N,) of each row's ``counts`` (N,) largest values that are on the truth (N, P)."""
    last = values.sort(1, descending=True).values.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    above, equal = values > last, values == last
    left = counts - above.sum(1)
    by_chance = left * (equal & truth).sum(1) / equal.sum(1)
    return ((above & truth).sum(1) + by_chance).double() / counts.clamp(min=1)


@metric(
    family="localization",
    better="higher",
    cite="Zhou et al. 2016, arXiv:1512.04150, sec. 3.2 (boxes from maps)",
    needs="truth",
)
def box_iou(case: Case, threshold: Share = 0.2) -> Tensor:
    """The overlap of the box around the map's largest hot region with that of the object: intersection over union.

    Hot is what has at least ``threshold`` of the map's largest value: the number hangs on it. Of several separate
    objects the one that fits best counts, of hot regions of one size the mean. From 0 to 1; a box around everything
    has the object's share of the image.
    """
    positive, truth = _positive(case).numpy(), _truth(case).numpy()
    found = [_iou(*pair, threshold) for pair in zip(positive, truth, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _iou(heat: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    if not truth.any() or not heat.any():
        return float("nan")
    hot = _regions(heat >= max(threshold * heat.max(), np.nextafter(0, 1)))
    most = max(size for size, _ in hot)
    objects = [box for _, box in _regions(truth)]
    return float(np.mean([max(_overlap(box, one) for one in objects) for size, box in hot if size == most]))


def _regions(mask: np.ndarray) -> list[tuple[int, Box]]:
    """Return size and box of each region of a mask; positions that touch at a corner are of one region."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return list(zip(sizes.tolist(), ndimage.find_objects(labels), strict=True))


def _overlap(a: Box, b: Box) -> float:
    inner = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    shared = _volume(inner) if all(s.stop > s.start for s in inner) else 0
    return shared / (_volume(a) + _volume(b) - shared)


def _volume(box: Box) -> int:
    return int(np.prod([s.stop - s.start for s in box]))
