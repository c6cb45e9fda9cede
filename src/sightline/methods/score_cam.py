"""CAMs whose weights are scores: of the image seen through each channel, or of the net without that channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.masks import SMOOTH
from sightline.methods.cam import rectified
from sightline.methods.perturbation import Fill, covering
from sightline.methods.registry import Range, method
from sightline.recording import Recording

__all__ = ["ablation_cam", "is_cam", "score_cam", "ss_cam"]

Count = Annotated[int, Range(1)]
Some = Annotated[int, Range(0)]


def _strongest(a: Tensor, channels: int) -> Tensor:
    """Keep the channels (N, k, *S) that vary most over positions; all of them for 0."""
    if not 0 < channels < a.shape[1]:
        return a
    best = a.flatten(2).var(2).topk(channels, dim=1).indices
    return a.gather(1, best.reshape(*best.shape, *[1] * (a.ndim - 2)).expand(-1, -1, *a.shape[2:]))


def mask_of(channel: Tensor, size: tuple[int, ...]) -> Tensor:
    """Enlarge one channel (N, *S) to the input and bring it to 0 to 1 for each image."""
    large = F.interpolate(channel.unsqueeze(1), size=size, mode=SMOOTH[len(size)], align_corners=False).squeeze(1)
    return unit(large)


def unit(maps: Tensor) -> Tensor:
    """Bring maps (N, *S) to 0 to 1 for each image."""
    low, high = (shaped(v, maps) for v in (maps.flatten(1).amin(1), maps.flatten(1).amax(1)))
    return (maps - low) / (high - low).clamp(min=1e-12)


def shaped(values: Tensor, maps: Tensor) -> Tensor:
    """Give each image's value (N,) the dimensions of its map (N, *S)."""
    return values.reshape(-1, *[1] * (maps.ndim - 1))


def _weights(rec: Recording, masks: Iterator[Tensor], copies: int, fill: Fill) -> Tensor:
    """Return the softmax over channels of the mean score through each channel's ``copies`` masks: (N, k)."""
    scores = torch.stack(list(rec.scores_at(map(covering(rec, fill), masks))), 1)
    return torch.softmax(scores.unflatten(1, (-1, copies)).mean(2).double(), 1)


def _weighted(a: Tensor, weights: Tensor, relu: bool) -> Tensor:
    shaped = weights.to(a).reshape(*weights.shape, *[1] * (a.ndim - 2))
    return rectified((shaped * a).sum(1), relu)


def _score_cam(
    rec: Recording, channels: int, copies: int, fill: Fill, relu: bool, variant: Callable[[Tensor, int], Tensor]
) -> Tensor:
    a = _strongest(rec.activation(), channels)
    masks = (variant(a[:, k], i) for k in range(a.shape[1]) for i in range(copies))
    return _weighted(a, _weights(rec, masks, copies, fill), relu)


@method(family="cam", cite="Wang et al. 2020, arXiv:1910.01279, eq. 4-8", reads="layer")
def score_cam(rec: Recording, channels: Some = 0, fill: Fill = "zero", relu: bool = True) -> Tensor:
    """Channels weighted by the softmax of the scores that the image gets when seen through each channel.

    ``channels`` takes only those that vary most (Faster Score-CAM); 0 takes all, one forward pass for each.
    """
    size = tuple(rec.x.shape[2:])
    return _score_cam(rec, channels, 1, fill, relu, lambda channel, _: mask_of(channel, size))


@method(family="cam", cite="Wang et al. 2020, arXiv:2006.14255 (SS-CAM), eq. 5", reads="layer")
def ss_cam(
    rec: Recording,
    channels: Some = 0,
    samples: Count = 10,
    noise: Annotated[float, Range(0)] = 2.0,
    fill: Fill = "zero",
    relu: bool = True,
) -> Tensor:
    """Score-CAM with each channel's score averaged over noisy copies of the channel.

    ``noise`` is the standard deviation in units of the channel's own.
    """
    size, generator = tuple(rec.x.shape[2:]), torch.Generator().manual_seed(rec.seed)

    def noisy(channel: Tensor, _: int) -> Tensor:
        drawn = torch.randn(channel.shape[1:], generator=generator, dtype=torch.float64).to(channel)
        spread = channel.flatten(1).std(1).reshape(-1, *[1] * len(size))
        return mask_of(channel + noise * spread * drawn, size)

    return _score_cam(rec, channels, samples, fill, relu, noisy)


@method(family="cam", cite="Naidu et al. 2020, arXiv:2010.03023 (IS-CAM), eq. 4-6", reads="layer")
def is_cam(rec: Recording, channels: Some = 0, steps: Count = 10, fill: Fill = "zero", relu: bool = True) -> Tensor:
    """Score-CAM with each channel's score averaged while its mask is faded in."""
    size = tuple(rec.x.shape[2:])
    return _score_cam(rec, channels, steps, fill, relu, lambda c, i: mask_of(c, size) * ((i + 1) / steps))


@method(family="cam", cite="Desai & Ramaswamy 2020, Ablation-CAM (WACV), eq. 4-6", reads="layer")
def ablation_cam(rec: Recording, relu: bool = True) -> Tensor:
    """Channels weighted by how much the score drops without them, as a share of the score: (y - y_k) / |y|.

    Only what follows the layer is run again, once for each channel.
    """
    a = rec.activation()
    scores = torch.stack(list(rec.scores_after(_without(a, k) for k in range(a.shape[1]))), 1)
    whole = rec.scores.unsqueeze(1)
    return _weighted(a, (whole - scores) / whole.abs().clamp(min=1e-12), relu)


def _without(a: Tensor, channel: int) -> Tensor:
    copy = a.clone()
    copy[:, channel] = 0
    return copy
