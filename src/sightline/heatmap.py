"""From an attribution to a map: channels reduced, resized. Nothing here normalises or clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fuse_maps", "low_passed", "reduce_channels", "resize", "resize_array"]

_MODES = {
    "nearest": ("nearest-exact",) * 3,
    "bilinear": ("linear", "bilinear", "trilinear"),
    "bicubic": ("linear", "bicubic", "trilinear"),
}


def reduce_channels(values: np.ndarray, how: str) -> np.ndarray:
    """Reduce (C, *S) to (*S): max-abs, sum-abs, sum, l2 or mean over channels.

    >>> reduce_channels(np.array([[-2.0], [1.0]]), "max-abs")
    array([2.])
    """
    if how == "max-abs":
        return np.asarray(np.abs(values).max(0))
    if how == "sum-abs":
        return np.asarray(np.abs(values).sum(0))
    if how == "l2":
        return np.asarray(np.sqrt(np.square(values).sum(0)))
    return np.asarray(values.sum(0) if how == "sum" else values.mean(0))


def resize(maps: Tensor, size: Sequence[int], how: str = "bilinear") -> Tensor:
    """Resize (N, *S) to (N, *size); pixel centres keep their place (no aligned corners)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if how == "spline":
        return _spline(maps, size)
    mode = _MODES[how][len(size) - 1]
    align = None if mode.startswith("nearest") else False
    wide = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(wide.unsqueeze(1), size=tuple(size), mode=mode, align_corners=align).squeeze(1).to(maps)


def _spline(maps: Tensor, size: Sequence[int]) -> Tensor:
    from scipy import ndimage

    factors = [1.0, *(new / old for new, old in zip(size, maps.shape[1:], strict=True))]
    return torch.from_numpy(ndimage.zoom(maps.detach().cpu().numpy(), factors, order=3)).to(maps)


def resize_array(values: np.ndarray, size: Sequence[int], how: str) -> np.ndarray:
    """Resize one map (*S) to (*size)."""
    return resize(torch.from_numpy(np.array(values))[None], size, how)[0].numpy()


def low_passed(values: Tensor, share: float) -> Tensor:
    """Keep the lowest frequencies of (N, C, *S), ``share`` of those along each axis; the mean is always kept.

    1 keeps all. So each channel's sum stays what it was (Muzellec et al. 2023, arXiv:2307.09591, eq. 4).
    """
    if share >= 1:
        return values
    wide = values if values.dtype == torch.float64 else values.float()
    dims = tuple(range(2, values.ndim))
    spectrum = torch.fft.fftn(wide, dim=dims)
    for dim in dims:
        kept = torch.fft.fftfreq(values.shape[dim], device=values.device).abs() <= 0.5 * share
        spectrum = spectrum * kept.reshape([-1 if d == dim else 1 for d in range(values.ndim)])
    filtered: Tensor = torch.fft.ifftn(spectrum, dim=dims).real.to(values)
    return filtered


def fuse_maps(maps: Sequence[Tensor], how: str) -> Tensor:
    """Fuse maps (N, ...) of several layers: each is resized to the largest and divided by its largest magnitude.

    ``how`` is mean, max or product. Without the division the layer with the largest numbers would be the result.
    """
    size = max((m.shape[1:] for m in maps), key=lambda s: s.numel())
    alike = torch.stack([_unit(m if m.shape[1:] == size else resize(m, size)) for m in maps])
    if how == "max":
        return alike.amax(0)
    return alike.mean(0) if how == "mean" else alike.prod(0)


def _unit(maps: Tensor) -> Tensor:
    largest = maps.abs().flatten(1).amax(1)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return maps / largest.reshape(-1, *[1] * (maps.ndim - 1))
