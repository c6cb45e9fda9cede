"""XRAI: the regions of an image in the order of how much of the attribution they hold."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.masks import overlapping_segments
from sightline.methods.cam import rectified
from sightline.methods.gradient import Count, integrated_gradients
from sightline.methods.registry import method
from sightline.points import BaselineName
from sightline.recording import Recording

_LEAST_PART = 1e-3  # of the image: what adds less to a region is no region of its own


@method(
    family="gradient",
    cite="Kapishnikov et al. 2019, arXiv:1906.02825, sec. 3, alg. 1",
    reads="input",
    at="scores",
    style="sequential",
)
def xrai(
    rec: Recording,
    baseline: Literal["black_and_white"] | BaselineName | Tensor = "black_and_white",
    steps: Count = 50,
    relu: bool = True,
) -> Tensor:
    """Segments of several sizes ranked by the density of integrated gradients in what each adds: sum(IG) / area.

    The map is each region's density, by default those of a black and of a white baseline averaged. What joins last
    speaks against the target most densely, and would outshine the rest: ``relu`` cuts it off.
    """
    if rec.x.ndim != 4:
        raise RefusedError(
            f"xrai needs images (N, C, H, W), whose segments it ranks; the input is {tuple(rec.x.shape)}: "
            "use integrated_gradients, or feature_ablation with segments of your own."
        )
    names = ("black", "white") if isinstance(baseline, str) and baseline == "black_and_white" else (baseline,)
    quiet = rec.for_target(rec.goal)  # what integrated gradients promise, regions do not keep
    summed = sum(integrated_gradients(quiet, name, steps).sum(1) for name in names) / len(names)
    found = torch.stack([_ranked(image, a) for image, a in zip(rec.x, torch.as_tensor(summed), strict=True)])
    return rectified(found, relu)


def _ranked(image: Tensor, attribution: Tensor) -> Tensor:
    values = attribution.detach().cpu().double().numpy()
    found = region_densities(values, overlapping_segments(image))
    return torch.from_numpy(found).to(attribution)


def region_densities(attribution: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Return the density (H, W) of each region: segments (M, H, W) join greedily, the densest new part first.

    What is left over, in parts too small, gets its own mean.
    """
    values, masks = attribution.ravel(), segments.reshape(len(segments), -1)
    found, free = np.zeros_like(values), np.ones(values.shape, dtype=bool)
    sums, areas = masks @ values, masks.sum(1)
    least = max(1, round(_LEAST_PART * values.size))
    while (areas >= least).any():
        density = np.where(areas >= least, sums / np.maximum(areas, 1), -np.inf)
        best = int(density.argmax())
        part = masks[best] & free
        found[part], free = density[best], free & ~part
        lost = masks[:, part]
        sums, areas = sums - lost @ values[part], areas - lost.sum(1)
    if free.any():
        found[free] = values[free].mean()
    return found.reshape(attribution.shape)
