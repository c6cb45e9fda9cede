"""A net whose exact attribution is known, and maps from exact to upside down, for the tests of faithfulness metrics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sightline.evaluation import METRICS

FAITHFULNESS = [
    "single_deletion", "deletion", "insertion", "pixel_flipping", "aopc", "aopc_lerf", "sensitivity_n", "mu_fidelity",
    "infidelity", "irof", "road_morf", "road_lerf", "road", "sic", "aic", "attained_deletion",
]  # fmt: skip


class PixelNet(nn.Module):
    """Two classes on 3 x H x W pixels: one sums them by known weights, the other says nothing."""

    def __init__(self, weights: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weights).flatten(1).sum(1) + self.bias
        return torch.stack((score, torch.zeros_like(score)), 1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _bump(size: tuple[int, ...], place: float) -> Tensor:
    axes = [torch.linspace(0, 1, side, dtype=torch.float64) - place for side in size]
    return torch.exp(-torch.stack(torch.meshgrid(*axes, indexing="ij")).pow(2).sum(0) / (2 * 0.15**2))


def pixel_net(*size: int, images: int = 4, channels: int = 3) -> tuple[PixelNet, Tensor, Tensor]:
    """Return a linear net, images that it is sure of, and their exact attribution to positions, from zero.

    One bright blob says that it is the class, another that it is not, and noise says a little of either.
    """
    for_it, against = _bump(size, 0.3), _bump(size, 0.75)
    bright = 0.2 + for_it * (1 + 0.3 * normal(images, 1, *size, seed=1)) + 0.8 * against
    x = (bright + 0.05 * normal(images, channels, *size, seed=2)).float()
    weights = (3 * for_it - against + 0.2 * normal(*size, seed=3)).float().expand(channels, *size)
    net = PixelNet(weights * (6.0 / float((x * weights).flatten(1).sum(1).mean())), bias=-2.0)
    return net.eval(), x, (x * net.weights.detach()).sum(1)


def noise_like(maps: Tensor, seed: int = 5) -> Tensor:
    return normal(*maps.shape, seed=seed).to(maps)


def half_right(exact: Tensor) -> Tensor:
    """Add as much noise as there is signal."""
    return exact + exact.std() * noise_like(exact)


def options(name: str, **how: object) -> dict[str, object]:
    """Return those of the parameters that the metric has, under its name."""
    return {f"{name}.{k}": v for k, v in how.items() if k in METRICS[name].parameters}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
