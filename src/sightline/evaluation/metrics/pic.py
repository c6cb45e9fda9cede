"""Performance information curves: how sure the model is, against how much information of the image it is shown.

Kapishnikov et al. 2019, arXiv:1906.02825: the positions of the largest values are shown on a blurred image; the
information of what is shown is the size to which it compresses.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.evaluation.case import Case, ranked
from sightline.evaluation.registry import metric
from sightline.goals import lead_goal
from sightline.methods.perturbation import covered, fill_of
from sightline.points import Baseline
from sightline.recording import Recording
from sightline.schema import Range

Share = Annotated[float, Range(0, 1)]

# Thirteen shares shown, between none and all.
SHOWN = (0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.21, 0.34, 0.5, 0.75, 1.0)
_DRAWN = torch.linspace(0, 1, 21, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Revealed:
    """What came of each image with each of `SHOWN` shown, all (N, shares) in float64.

    ``sizes`` are bytes, ``scores`` the target's probability, ``told`` 1 where its class is the model's answer; that is
    NaN where the target is no class.
    """

    sizes: Tensor
    scores: Tensor
    told: Tensor


def revealed(rec: Recording, case: Case, fill: Baseline) -> Revealed:
    """Show the images (N, C, H, W) bit by bit, best first: the same for both metrics of a map."""
    _refuse_other_than_pictures(rec)
    base, ranks = fill_of(rec, fill), ranked(case.maps, case.seed).reshape(case.maps.shape)
    counts = [round(share * ranks[0].numel()) for share in SHOWN]
    sizes = [_bytes(rec, covered(rec.x, base, ranks < count)) for count in counts]
    scores, told = _answers(rec, (covered(rec.x, base, ranks < count) for count in counts))
    return Revealed(torch.tensor(sizes, dtype=torch.float64).T, scores, told)


def _refuse_other_than_pictures(rec: Recording) -> None:
    if rec.x.ndim != 4 or rec.x.shape[1] not in (1, 3):
        raise RefusedError(
            f"it compresses pictures, and the input {tuple(rec.x.shape[1:])} is none of one or three channels; use "
            "insertion instead."
        )


def _bytes(rec: Recording, x: Tensor) -> list[int]:
    """Return the bytes of each of the images (N, C, H, W) that stand for those of the recording."""
    return [_compressed(_pixels(image, own)) for image, own in zip(x.float(), rec.x.float(), strict=True)]


def _pixels(image: Tensor, own: Tensor) -> np.ndarray:
    """Return an image (C, H, W) as a picture, uint8, in 256 levels from the least to the largest value of ``own``."""
    low, high = own.aminmax()
    levels = (image - low) / (high - low).clamp(min=1e-12) * 255
    pixels = levels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _compressed(pixels: np.ndarray) -> int:
    """Return the bytes of a picture as lossless WebP, at the fastest setting: slower ones save some 15 % of each."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=50, method=0)
    return file.tell()


def _answers(rec: Recording, points: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the target's score at each point, and 1 where its class is the answer: (N, K) each, by the same passes."""
    classes = rec.goal.classes
    scores, told = [], []
    for child, size in rec.children(points, grad=False):
        scores.append(child.scores.double().cpu().unflatten(0, (size, -1)))
        leads = torch.full_like(child.scores, torch.nan)
        if classes is not None:
            leads = (child.for_target(lead_goal(classes)).scores > 0).to(leads)
        told.append(leads.double().cpu().unflatten(0, (size, -1)))
    return torch.cat(scores).T, torch.cat(told).T


def _relative(values: Tensor) -> Tensor:
    """Scale each row so that its first value is 0 and its last one 1, others clipped; NaN where it does not grow."""
    grown = values[:, -1:] - values[:, :1]
    scaled = (values - values[:, :1]) / torch.where(grown > 0, grown, torch.nan)
    return scaled.clamp(0, 1)


def _area(case: Case, name: str, found: Revealed, values: Tensor, least: float) -> Tensor:
    """Return the area (N,) under values over information, both relative to hidden and whole image, never falling."""
    sure = (found.scores[:, -1] >= least).unsqueeze(1)
    information, order = _relative(found.sizes).sort(dim=1, stable=True)
    heights = torch.where(sure, _relative(values), torch.nan).cummax(1).values.gather(1, order)
    case.drawn(name, _DRAWN, _resampled(information, heights))
    return torch.trapezoid(heights, information, dim=1)


def _resampled(information: Tensor, heights: Tensor) -> Tensor:
    pairs = zip(information.numpy(), heights.numpy(), strict=True)
    return torch.from_numpy(np.stack([np.interp(_DRAWN.numpy(), x, y) for x, y in pairs]))


@metric(family="faithfulness", better="higher", cite="Kapishnikov et al. 2019, arXiv:1906.02825 (SIC)")
def sic(case: Case, least: Share = 0.8, fill: Baseline = "blur") -> Tensor:
    """The area under the probability against the information shown (bytes of the picture), best first: high is good.

    From 0 to 1, both relative to the hidden and the whole image, the probability never falling, as the authors count.
    At thirteen shares from 0.5 to 75 %; information is the size as lossless WebP, in 256 levels of the image's range.
    They interpolate between what is shown and 1 % of the pixels; here it lies on the blurred image, where scattered
    pixels soon take more bytes than the whole picture: maps without areas come near 0. Undefined where the image itself
    has less than ``least``, and where hiding it does not lower both the probability and the size.
    """
    found = case.view("probability").memo(revealed, case=case, fill=fill)
    return _area(case, "sic", found, found.scores, least)


@metric(family="faithfulness", better="higher", cite="Kapishnikov et al. 2019, arXiv:1906.02825 (AIC)")
def aic(case: Case, least: Share = 0.8, fill: Baseline = "blur") -> Tensor:
    """The area under whether the model names the class, against the information shown, best first: high is good.

    As `sic`, which shares its images, with 1 where the target's class is the model's answer and 0 elsewhere. Undefined
    also where the hidden image is named so too, or the whole image is not.
    """
    view = case.view("probability")
    if view.goal.classes is None:
        raise RefusedError("it asks whether the class is still named, and the target is no class; use sic.")
    found = view.memo(revealed, case=case, fill=fill)
    return _area(case, "aic", found, found.told, least)
