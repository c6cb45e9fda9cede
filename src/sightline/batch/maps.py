"""An explanation's map at the size that a store keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from sightline.explanation import Explanation
from sightline.geometry import Geometry
from sightline.heatmap import resize_array

__all__ = ["stored_map"]


def stored_map(e: Explanation, shape: Sequence[int]) -> tuple[np.ndarray, float]:
    """Return an explanation's map over the whole original at the store's size, float16 of magnitude 1 at most, and its
    scale: their product is the map. NaN where the model never saw the original.
    """
    if e.geometry is None:
        small = _averaged(e.at_input(), shape)
    else:
        small = _over_original(e, replace(e.geometry, original=(shape[0], shape[1])))
    scale = float(np.nanmax(np.abs(small), initial=0.0))
    return (small / (scale or 1.0)).astype(np.float16), scale


def _over_original(e: Explanation, geometry: Geometry) -> np.ndarray:
    """Return the map at the original's size. A layer's own is brought there in one step: the input is much larger."""
    if e.reduced.shape == e.input_size:
        return geometry.to_original(e.reduced)
    how = e.parameters.get("upsampling", "bilinear")
    down, across, unseen = _steps(geometry, (e.reduced.shape[0], e.reduced.shape[1]), how)
    small = np.asarray(down @ e.reduced @ across.T)
    small[unseen] = np.nan
    return small


@lru_cache(maxsize=256)
def _steps(geometry: Geometry, size: tuple[int, int], how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W and V of W M Vᵀ, which is a map M (h, w) resized to the input and laid over the original, and where
    nothing was seen: both are linear, an axis after the other.
    """
    grown = (resize_array(np.eye(n, dtype=np.float32), (geometry.tensor[a], n), how) for a, n in enumerate(size))
    down, across = (geometry.weights_onto_original(axis) @ weights for axis, weights in enumerate(grown))
    return down, across, ~geometry.seen()


def _averaged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a series' or volume's map at another size, each value the mean of what lies there."""
    given = torch.from_numpy(np.array(values))[None, None]
    if len(shape) == 1:
        return F.adaptive_avg_pool1d(given, shape[0])[0, 0].numpy()
    return F.adaptive_avg_pool3d(given, (shape[0], shape[1], shape[2]))[0, 0].numpy()
