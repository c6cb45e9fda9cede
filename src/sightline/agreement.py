"""How alike explanations of one picture are: the rank correlation of their maps, pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError, ParameterError
from sightline.evaluation.metrics.agreement import pearson, ranks
from sightline.explanation import Explanation

__all__ = ["agreement"]

_POOLS: Mapping[int, Callable[[Tensor, int], Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


def agreement(explanations: Sequence[Explanation], *, cells: int | None = None) -> np.ndarray:
    """Return the Spearman correlation (N, N) of the signed maps of N explanations of one picture.

    1: the same order of places; 0: no relation, as of a random map; -1: the opposite order; NaN where a map is the
    same everywhere. Maps are compared on the input grid of the first, where all models saw the picture. With
    ``cells`` they are averaged over a grid of so many cells a side before, so that fine maps and coarse ones can agree
    on where without agreeing on each pixel. Raises InputError for none or for pictures of different sizes,
    ParameterError for ``cells`` below 2.

    >>> from sightline import explain
    >>> from sightline.demo.scenes import scene
    >>> agreement(explain("demo/honest", scene(0).image, "grad_cam,gradient")).shape
    (2, 2)
    """
    if not explanations:
        raise InputError("no explanations came; wanted at least one.")
    if cells is not None and cells < 2:
        raise ParameterError(f"cells={cells}: wanted at least 2 a side, or None for pixels.")
    maps = torch.from_numpy(np.stack([_on_grid(e, explanations[0]) for e in explanations])).double()
    rows = _seen_by_all(maps, cells)
    if rows.shape[1] < 2:
        return np.full((len(rows), len(rows)), np.nan)
    ordered = ranks(rows)
    found = [pearson(row.expand_as(ordered), ordered) for row in ordered]
    return torch.stack(found).numpy()


def _on_grid(e: Explanation, first: Explanation) -> np.ndarray:
    """Return a map on the input grid of the first: NaN where its own model did not see the picture."""
    if (e.geometry, e.input_size) == (first.geometry, first.input_size):
        return e.at_input()
    if first.geometry is None or e.heatmap.shape != first.heatmap.shape:
        raise InputError(
            f"maps of {e.heatmap.shape} and {first.heatmap.shape} came; wanted explanations of one picture."
        )
    return first.geometry.to_tensor(e.heatmap)


def _seen_by_all(maps: Tensor, cells: int | None) -> Tensor:
    """Return the values (N, K) of the places that no map leaves out."""
    known = torch.isfinite(maps).all(0)
    if cells is None:
        return maps[:, known]
    pool = _POOLS[known.ndim]
    share = pool(known.double()[None], cells)[0]
    sums = pool(torch.where(known, maps, 0.0), cells)
    return (sums / share.clamp(min=1e-12))[:, share > 0]
