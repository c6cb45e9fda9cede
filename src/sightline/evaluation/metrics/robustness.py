"""Robustness: how much the map changes where the image hardly does. A map that never changes is the most robust."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import RefusedError
from sightline.evaluation.case import Case
from sightline.evaluation.metrics.agreement import spearman
from sightline.evaluation.registry import metric
from sightline.geometry import restore
from sightline.goals import class_scores
from sightline.recording import Recording
from sightline.schema import Range

Count = Annotated[int, Range(1)]
Level = Annotated[float, Range(1e-6)]

_LEAST = 0.01  # of the largest magnitude: what is smaller is divided by that instead


def _nearby(rec: Recording, samples: int, radius: float) -> Iterator[Tensor]:
    """Yield inputs (N, C, *S) with uniform noise up to ``radius`` of each image's range, the same noise for all."""
    generator = torch.Generator().manual_seed(rec.seed)
    spread = _shaped(_range(rec.x), rec.x)
    for _ in range(samples):
        noise = 2 * torch.rand(rec.x.shape[1:], generator=generator, dtype=torch.float64).to(rec.x) - 1
        yield rec.x + radius * spread * noise


def _range(x: Tensor) -> Tensor:
    return x.flatten(1).amax(1) - x.flatten(1).amin(1)


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _rms(values: Tensor) -> Tensor:
    return values.flatten(1).double().pow(2).mean(1).sqrt().cpu()


def _changes(case: Case, samples: int, radius: float) -> Tensor:
    """Return |a(x + d) - a(x)| / |a(x)| of each sample: (samples, N); NaN for a map that is zero."""
    size = _rms(case.maps)
    found = [_rms(case.explained(x=x) - case.maps) / size.clamp(min=1e-300) for x in _nearby(case.rec, samples, radius)]
    return torch.where(size > 0, torch.stack(found), torch.nan)


@metric(family="robustness", better="lower", cite="Yeh et al. 2019, arXiv:1901.09392 (the maximum)", needs="method")
def max_sensitivity(case: Case, samples: Count = 8, radius: Level = 0.02) -> Tensor:
    """The largest change of the map, as a share of its size, among random neighbours of the image: low is good.

    max |a(x + d) - a(x)| / |a(x)|, d uniform up to ``radius`` of the image's range; the class stays the image's. From
    0; a map that never changes has 0, so measure randomisation beside it. One more explanation for each sample.
    Undefined for a map of zeros.
    """
    return _changes(case, samples, radius).amax(0)


@metric(family="robustness", better="lower", cite="Yeh et al. 2019, arXiv:1901.09392 (the mean)", needs="method")
def average_sensitivity(case: Case, samples: Count = 8, radius: Level = 0.02) -> Tensor:
    """The mean change of the map, as a share of its size, over random neighbours of the image: low is good.

    As `max_sensitivity`, which a map that never changes wins as well.
    """
    return _changes(case, samples, radius).mean(0)


@metric(family="robustness", better="lower", cite="Alvarez-Melis & Jaakkola 2018, arXiv:1806.08049", needs="method")
def local_lipschitz(case: Case, samples: Count = 8, radius: Level = 0.02) -> Tensor:
    """The steepest change of the map near the image, both as shares of their size: low is good.

    max (|a(x + d) - a(x)| / |a(x)|) / (|d| / r), |.| the root mean square and r the image's range, so that neither the
    map's scale nor the image's counts. A map that never changes has 0. Undefined for a map of zeros.
    """
    spread = _range(case.rec.x).double().cpu()
    moved = torch.stack([_rms(x - case.rec.x) for x in _nearby(case.rec, samples, radius)]) / spread
    return torch.where(spread > 0, _changes(case, samples, radius) / moved, torch.nan).amax(0)


@metric(family="robustness", better="lower", cite="Agarwal et al. 2022, arXiv:2203.06877 (RIS)", needs="method")
def relative_input_stability(case: Case, samples: Count = 8, radius: Level = 0.02) -> Tensor:
    """The map's largest relative change, element by element, over the input's: low is good.

    max |(a' - a) / a| / |(x' - x) / x|, |.| the root mean square. Divisors below 1 % of the largest magnitude are
    raised to that: else the smallest would decide alone. As in the paper only neighbours of the same predicted class
    count; those that flip it are left out, and where all do the value is undefined, as for a map of zeros. A map that
    never changes has 0.
    """
    kept = case.rec.memo(_same_class, samples=samples, radius=radius)
    found = [
        _relative(case.explained(x=x), case.maps) / _relative(x, case.rec.x) for x in _nearby(case.rec, samples, radius)
    ]
    worst = torch.where(kept, torch.stack(found), -torch.inf).amax(0)
    return torch.where(kept.any(0), worst, torch.nan)


def _relative(changed: Tensor, values: Tensor) -> Tensor:
    sizes = values.double().abs()
    largest = _shaped(sizes.flatten(1).amax(1), sizes)
    ratios = (changed.double() - values.double()) / torch.maximum(sizes, _LEAST * largest).clamp(min=1e-300)
    return torch.where(largest.flatten().cpu() > 0, _rms(ratios), torch.nan)


def _same_class(rec: Recording, samples: int, radius: float) -> Tensor:
    """Return whether each neighbour is predicted as its image is: bool (samples, N)."""
    predicted = class_scores(rec.shared.forward, "logit").argmax(1)
    found: list[Tensor] = []
    for child, size in rec.children(_nearby(rec, samples, radius), grad=False):
        found += class_scores(child.shared.forward, "logit").argmax(1).unflatten(0, (size, -1)).unbind(0)
    return (torch.stack(found) == predicted).cpu()


@metric(family="robustness", better="higher", cite="Sightline 2026 (rank correlation after JPEG)", needs="method")
def jpeg_stability(case: Case, quality: Annotated[int, Range(1, 95)] = 75) -> Tensor:
    """The rank correlation of the map with that of the same picture saved as JPEG: high is good.

    One more explanation, the class the picture's. A map that never changes but varies has 1; undefined where a map is
    constant.
    """
    found = case.explained(x=_as_jpeg(case.rec, quality))
    return spearman(found.flatten(1).cpu(), case.maps.flatten(1).cpu())


def _as_jpeg(rec: Recording, quality: int) -> Tensor:
    from PIL import Image

    if rec.x.ndim != 4 or rec.x.shape[1] not in (1, 3) or rec.x.shape[1] != rec.model.preprocessing.channels:
        raise RefusedError(
            f"an input of shape {tuple(rec.x.shape[1:])} cannot be saved as JPEG; wanted a grey picture or one in "
            "colours: take shift_stability or max_sensitivity."
        )
    saved = []
    for pixels in (restore(x.float().cpu(), rec.model.preprocessing) for x in rec.x):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
        saved.append(_normalised(np.asarray(Image.open(stream)), rec))
    return torch.stack(saved)


def _normalised(pixels: np.ndarray, rec: Recording) -> Tensor:
    """Return pixels (H, W[, C]) of the input's size as an input (C, H, W): the way back from `restore`."""
    how = rec.model.preprocessing
    planes = torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).double()
    planes = planes.flip(0) if how.order == "bgr" else planes
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(-1, 1, 1) for v in (how.mean, how.std))
    return ((planes / how.scale - mean) / std).to(rec.x)


@metric(family="robustness", better="higher", cite="Sightline 2026 (rank correlation after a shift)", needs="method")
def shift_stability(case: Case, shift: Annotated[float, Range(0, 0.5)] = 0.02) -> Tensor:
    """The rank correlation of the map with that of the image moved a little, moved back: high is good.

    The mean over the axes of a move by ``shift`` of the side, at least one pixel, the border repeated and left out. One
    more explanation for each axis, the class the image's. Undefined where a map is constant.
    """
    moves = [(axis, max(1, round(shift * side))) for axis, side in enumerate(case.rec.x.shape[2:])]
    return torch.stack([_after_move(case, axis, pixels) for axis, pixels in moves]).mean(0)


def _after_move(case: Case, axis: int, pixels: int) -> Tensor:
    found = case.explained(x=_moved(case.rec.x, axis + 2, pixels))
    length = case.maps.shape[axis + 1] - pixels
    before, after = case.maps.narrow(axis + 1, 0, length), found.narrow(axis + 1, pixels, length)
    return spearman(after.flatten(1).cpu(), before.flatten(1).cpu())


def _moved(x: Tensor, axis: int, pixels: int) -> Tensor:
    """Move images along an axis; what comes in is the border."""
    lines = x.movedim(axis, -1)
    flat = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (pixels, 0), mode="replicate")[..., : lines.shape[-1]]
    return flat.reshape(lines.shape).movedim(-1, axis)
