"""Nets whose weights were set by hand, so that what their score is made of is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.model import Model

__all__ = ["HANDMADE", "HandMade", "both_patches", "linear_sum", "one_patch", "red_pixels"]

SIDE = 16
_PATCHES = (slice(2, 6), slice(2, 6)), (slice(9, 13), slice(8, 12))


@dataclass(frozen=True, eq=False)
class HandMade:
    """A net, images (N, C, 16, 16) from 0 to 1, the pixels (N, 16, 16) that make the score of class 1, and how much.

    ``attribution`` (N, 16, 16) is each pixel's part in the score of class 1 against black, by symmetry where parts act
    together: it adds up to the score less the score of black.
    """

    name: str
    model: Model
    images: Tensor
    truth: Tensor
    attribution: Tensor


def _model(name: str, channels: int, *parts: nn.Module) -> Model:
    how = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.0,) * channels, std=(1.0,) * channels)
    return Model(nn.Sequential(*parts).eval(), name, how, Labels(("no", "yes")), weights="set by hand")


def _conv(weights: list[list[float]]) -> nn.Module:
    """Return a convolution of single pixels, weights (outputs, inputs), without bias."""
    values = torch.tensor(weights)
    return _set(nn.utils.skip_init(nn.Conv2d, values.shape[1], values.shape[0], 1, bias=False), values[..., None, None])


def _linear(weights: Tensor, bias: list[float] | None = None) -> nn.Module:
    made = nn.utils.skip_init(nn.Linear, weights.shape[1], weights.shape[0])
    return _set(made, weights, torch.zeros(len(weights)) if bias is None else torch.tensor(bias))


def _set(module: nn.Module, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    return module


def _answer(size: int = 1) -> nn.Module:
    """Return the last layer: class 0 scores nothing, class 1 the sum."""
    return _linear(torch.tensor([[0.0] * size, [1.0] * size]))


def red_pixels(count: int = 8, seed: int = 0) -> HandMade:
    """A net that counts red: relu(r - g - b), summed. Only red pixels count, each by what it adds.

    >>> net = red_pixels(2)
    >>> bool(torch.allclose(net.model.module(net.images)[:, 1], net.attribution.sum((1, 2))))
    True
    """
    drawn = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=drawn) * 0.6
    images[:, 1] = 1 - images[:, 1] * 2 / 3  # nothing else is more red than green
    red = torch.rand(count, SIDE, SIDE, generator=drawn) < 0.1
    red[:, 0, 0] = True
    colour = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1)
    images = torch.where(red.unsqueeze(1), colour, images)
    model = _model("red pixels", 3, _conv([[1.0, -1.0, -1.0]]), nn.ReLU(), nn.Flatten(), _answer(SIDE**2))
    amount = (images[:, 0] - images[:, 1] - images[:, 2]).clamp(min=0)
    return HandMade("red pixels", model, images, red, amount)


def _patches() -> Tensor:
    """Return the two patches' pixels (2, 16, 16)."""
    found = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    for number, place in enumerate(_PATCHES):
        found[number][place] = True
    return found


def _patch_means() -> Tensor:
    patches = _patches().flatten(1).float()
    return patches / patches.sum(1, keepdim=True)


def _patch_images(count: int, lit: Tensor, seed: int) -> Tensor:
    """Draw noise of all grey levels everywhere but on the patches, which are white where ``lit`` (N, 2), else black."""
    noise = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    first, second = _patches()
    noise = torch.where(first, lit[:, 0, None, None].float(), noise)
    return torch.where(second, lit[:, 1, None, None].float(), noise).unsqueeze(1)


def both_patches(count: int = 8, seed: int = 0) -> HandMade:
    """A net that says yes when two patches are white: relu(a + b - 1) of their means. Only they count, alike."""
    images = _patch_images(count, torch.ones(count, 2, dtype=torch.bool), seed)
    means = _linear(_patch_means())
    both = _linear(torch.tensor([[1.0, 1.0]]), [-1.0])
    parts = (_conv([[1.0]]), nn.ReLU(), nn.Flatten(), means, both, nn.ReLU(), _answer())
    truth = _patches().any(0).expand(count, -1, -1)
    return HandMade("both patches", _model("both patches", 1, *parts), images, truth, truth / truth[0].sum())


def one_patch(count: int = 8, seed: int = 0) -> HandMade:
    """A net that says yes when just one of two patches is white: relu(a - b) + relu(b - a). Both patches count.

    The white one adds all of the score, against black; that the other is black is why it is no less.
    """
    which = torch.arange(count) % 2
    lit = torch.stack((which == 0, which == 1), 1)
    images = _patch_images(count, lit, seed)
    apart = _linear(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    parts = (_conv([[1.0]]), nn.ReLU(), nn.Flatten(), _linear(_patch_means()), apart, nn.ReLU(), _answer(2))
    patches = _patches()
    truth = patches.any(0).expand(count, -1, -1)
    own = patches[which].float()
    return HandMade("one patch", _model("one patch", 1, *parts), images, truth, own / patches[0].sum())


def linear_sum(count: int = 8, seed: int = 0) -> HandMade:
    """A net that is one weighted sum of some pixels: each counts by its weight times its value, all others nothing."""
    drawn = torch.Generator().manual_seed(seed)
    weights = torch.randn(SIDE, SIDE, generator=drawn) * (torch.rand(SIDE, SIDE, generator=drawn) < 0.15)
    images = torch.rand(count, 1, SIDE, SIDE, generator=drawn) * 0.8 + 0.2
    last = _linear(torch.stack((torch.zeros(SIDE**2), weights.flatten())))
    model = _model("linear sum", 1, _conv([[1.0]]), nn.Flatten(), last)
    return HandMade("linear sum", model, images, (weights != 0).expand(count, -1, -1), images[:, 0] * weights)


HANDMADE: tuple[Callable[..., HandMade], ...] = (red_pixels, both_patches, one_patch, linear_sum)
