"""How alike two lists of numbers or two maps are; NaN where a correlation does not exist."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["pearson", "ranks", "spearman", "ssim"]


# Of the largest magnitude: values that are as near to each other as this differ by rounding only.
_SAME = 1e-12


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return each row's linear correlation (N,) of (N, K) with (N, K); NaN where one of them is constant."""
    varies = _varies(a) & _varies(b)
    a, b = (v.double() - v.double().mean(1, keepdim=True) for v in (a, b))
    size = a.norm(dim=1) * b.norm(dim=1)
    alike = (a * b).sum(1) / size.clamp(min=1e-300)
    return torch.where(varies, alike.clamp(-1, 1), torch.nan)


def _varies(values: Tensor) -> Tensor:
    low, high = values.double().aminmax(dim=1)
    return high - low > _SAME * torch.maximum(high.abs(), low.abs())


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return each row's rank correlation (N,); equal values, but for rounding, share their mean rank."""
    return pearson(ranks(a), ranks(b))


def ranks(values: Tensor) -> Tensor:
    """Return each row's ranks (N, K) from 1; equal values, but for rounding, share their mean rank."""
    from scipy.stats import rankdata

    largest = values.double().abs().amax(1, keepdim=True).clamp(min=1e-300)
    settled = (values.double() / largest / _SAME).round()
    return torch.as_tensor(rankdata(settled.cpu().numpy(), axis=1))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return each pair's structural similarity (N,) of maps (N, H, W), each scaled to its largest magnitude."""
    from skimage.metrics import structural_similarity

    pairs = zip(_scaled(a).double().cpu().numpy(), _scaled(b).double().cpu().numpy(), strict=True)
    return torch.tensor([float(structural_similarity(x, y, data_range=_range(x, y))) for x, y in pairs])


def _scaled(maps: Tensor) -> Tensor:
    largest = maps.flatten(1).abs().amax(1)
    return maps / torch.where(largest > 0, largest, 1).reshape(-1, *[1] * (maps.ndim - 1))


def _range(x: np.ndarray, y: np.ndarray) -> float:
    return float(max(x.max(), y.max()) - min(x.min(), y.min())) or 1.0
