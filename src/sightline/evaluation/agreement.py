"""How alike two lists of numbers or two maps are; NaN where a correlation does not exist."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["pearson", "spearman", "ssim"]


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return each row's linear correlation (N,) of (N, K) with (N, K); NaN where one of them is constant."""
    a, b = (v.double() - v.double().mean(1, keepdim=True) for v in (a, b))
    size = a.norm(dim=1) * b.norm(dim=1)
    alike = (a * b).sum(1) / size.clamp(min=1e-300)
    return torch.where(_varies(a) & _varies(b), alike.clamp(-1, 1), torch.nan)


def _varies(centred: Tensor) -> Tensor:
    return centred.abs().amax(1) > 0


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return each row's rank correlation (N,); equal values share their mean rank."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Tensor) -> Tensor:
    from scipy.stats import rankdata

    return torch.as_tensor(rankdata(values.double().cpu().numpy(), axis=1))


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
