"""ROAD: positions are removed by filling them in from their neighbours, so that the hole's shape tells little.

Rong et al. 2022, arXiv:2202.00449: each removed pixel is the weighted mean of its eight neighbours, 1/6 for the
direct and 1/12 for the diagonal ones, plus a little noise; all removed pixels together are one sparse linear system.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.evaluation.case import Case, Score, ranked, scores_of, swept_scores
from sightline.evaluation.registry import metric
from sightline.recording import Recording
from sightline.schema import Range

Noise = Annotated[float, Range(0)]

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_AROUND = tuple((dy, dx, 1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
_OUTSIDE, _KNOWN = -2, -1


def imputed(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Fill the removed positions (H, W) of an image (C, H, W) from what is left; all removed gives the mean colour.

    At the border the weights of the neighbours that exist are scaled to sum to 1.
    """
    from scipy.sparse.linalg import splu

    if removed.all():
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape).copy()
    filled = image.copy()
    if removed.any():
        system, right = _equations(image, removed)
        # The system is symmetric and its diagonal dominates: no pivoting is needed, which is faster.
        solved = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        filled[:, removed] = solved.solve(right).T
    return filled


def _equations(image: np.ndarray, removed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the system (R, R) and right sides (R, C) of the R removed positions' colours."""
    from scipy.sparse import csc_array

    rows, columns = np.nonzero(removed)
    number = np.pad(np.full(removed.shape, _KNOWN), 1, constant_values=_OUTSIDE)
    number[rows + 1, columns + 1] = here = np.arange(len(rows))
    right, weights = np.zeros((len(rows), len(image))), np.zeros(len(rows))
    entries = []
    for dy, dx, weight in _AROUND:
        beside = number[rows + 1 + dy, columns + 1 + dx]
        weights += weight * (beside != _OUTSIDE)
        known, unknown = beside == _KNOWN, beside >= 0
        right[known] += weight * image[:, rows[known] + dy, columns[known] + dx].T
        entries.append((here[unknown], beside[unknown], np.full(unknown.sum(), -weight)))
    i, j, values = (np.concatenate(part) for part in zip(*entries, (here, here, weights), strict=True))
    return csc_array((values, (i, j)), shape=(len(rows), len(rows))), right


def _filled_in(rec: Recording, ranks: Tensor, noise: float) -> Iterator[Tensor]:
    """Yield the images (N, C, H, W) with each share of the positions of the lowest ranks (N, H, W) filled in."""
    generator = torch.Generator().manual_seed(rec.seed)
    grain = noise * torch.randn(rec.x.shape[1:], generator=generator, dtype=torch.float64)
    images = rec.x.double().cpu().numpy()
    for share in SHARES:
        gone = ranks < round(share * ranks[0].numel())
        pairs = zip(images, gone.numpy(), strict=True)
        filled = torch.from_numpy(np.stack([imputed(image, hole) for image, hole in pairs]))
        yield (filled + grain * gone.unsqueeze(1)).to(rec.x)


def _curve(rec: Recording, case: Case, least_first: bool, noise: float) -> Tensor:
    """Return the scores (N, shares) with the most, or least, relevant shares of the positions filled in."""
    if rec.x.ndim != 4:
        raise RefusedError("it fills pictures in from their neighbours; use aopc or deletion for series and volumes.")
    maps = -case.maps if least_first else case.maps
    return swept_scores(rec, _filled_in(rec, ranked(maps, case.seed).reshape(maps.shape).cpu(), noise))


def _mean_score(case: Case, least_first: bool, noise: float, score: Score) -> Tensor:
    """Return the mean score (N,) over the shares removed; solved once for the metrics of one map."""
    curve = case.view(score).memo(_curve, case=case, least_first=least_first, noise=noise)
    parts = torch.tensor((0.0, *SHARES), dtype=torch.float64)
    name = "road_lerf" if least_first else "road_morf"
    case.drawn(name, parts, torch.cat((scores_of(case.view(score)).unsqueeze(1), curve), 1))
    return curve.mean(1)


@metric(family="faithfulness", better="lower", cite="Rong et al. 2022, arXiv:2202.00449 (ROAD, MoRF)")
def road_morf(case: Case, noise: Noise = 0.01, score: Score = "probability") -> Tensor:
    """The mean score when the most relevant positions are filled in from their neighbours: low is good.

    The mean over 10, 30, 50, 70 and 90 % removed, always exactly so many: equal values go in a drawn order. ``noise``
    is the standard deviation of what is added where it is filled in, in the input's units. For pictures.
    """
    return _mean_score(case, False, noise, score)


@metric(family="faithfulness", better="higher", cite="Rong et al. 2022, arXiv:2202.00449 (ROAD, LeRF)")
def road_lerf(case: Case, noise: Noise = 0.01, score: Score = "probability") -> Tensor:
    """The mean score when the least relevant positions are filled in from their neighbours: high is good.

    As `road_morf`, in the other order.
    """
    return _mean_score(case, True, noise, score)


@metric(
    family="faithfulness", better="higher", cite="Rong et al. 2022, arXiv:2202.00449 (ROAD, both orders as one number)"
)
def road(case: Case, noise: Noise = 0.01, score: Score = "probability") -> Tensor:
    """Half of how much higher the score is without the least relevant positions than without the most relevant ones.

    (`road_lerf` - `road_morf`) / 2, which shares their images: 0 for a random order, negative for a map upside down.
    """
    return (_mean_score(case, True, noise, score) - _mean_score(case, False, noise, score)) / 2
