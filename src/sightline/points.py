"""Inputs to look at besides the image itself: noise around it, paths to it, baselines it is compared with.

Noise is drawn once and shared by the images of a batch, so that a batch gives what its single images give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import ParameterError
from sightline.geometry import Preprocessing

__all__ = [
    "Baseline",
    "BaselineName",
    "Colour",
    "NoiseScale",
    "PathRule",
    "baseline_of",
    "gaussian_blur",
    "noisy",
    "path",
]

BaselineName = Literal["zero", "black", "white", "mean", "blur", "uniform"]


class Colour(str):
    """A colour as text: a name, #rrggbb, or numbers from 0 to 255, one for all channels or one for each."""

    __slots__ = ()

    @staticmethod
    def read(text: Any) -> Colour | None:
        """Return the text as a colour, or None where it is none.

        >>> Colour.read("teal").levels, Colour.read("taupe")
        ((0.0, 128.0, 128.0), None)
        """
        colour = Colour(text) if isinstance(text, (str, int)) else Colour()
        return colour if colour.levels and all(0 <= level <= 255 for level in colour.levels) else None

    @property
    def levels(self) -> tuple[float, ...]:
        """The colour's levels from 0 to 255, none where it is no colour."""
        from PIL import ImageColor

        try:
            return tuple(float(part) for part in self.split(","))
        except ValueError:
            pass
        try:
            return tuple(float(level) for level in ImageColor.getrgb(self)[:3])
        except ValueError:
            return ()


Baseline: TypeAlias = BaselineName | Colour | Tensor
NoiseScale = Literal["relative", "absolute"]
PathRule = Literal["gauss-legendre", "trapezoid", "middle", "left", "right", "endpoints"]


def noisy(x: Tensor, samples: int, level: float, scale: NoiseScale, seed: int) -> Iterator[Tensor]:
    """Yield ``samples`` copies of ``x`` (N, C, *S) with Gaussian noise.

    The standard deviation is ``level`` times the image's range (max - min), or ``level`` itself when absolute.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        noise = torch.randn(x.shape[1:], generator=generator, dtype=torch.float64).to(x)
        yield x + _deviation(x, level, scale) * noise


def _deviation(x: Tensor, level: float, scale: NoiseScale) -> Tensor:
    if scale == "absolute":
        return torch.as_tensor(level).to(x)
    flat = x.flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    return level * spread.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Path:
    """Where a straight path from the baseline (0) to the image (1) is sampled, and with what weights."""

    alphas: tuple[float, ...]
    weights: tuple[float, ...]

    def points(self, x: Tensor, baseline: Tensor) -> Iterator[Tensor]:
        """Yield baseline + alpha (x - baseline) for each alpha."""
        return (baseline + alpha * (x - baseline) for alpha in self.alphas)


def path(steps: int, rule: PathRule) -> Path:
    """Return the sampling of [0, 1] by a quadrature rule; the weights sum to 1.

    >>> path(2, "middle")
    Path(alphas=(0.25, 0.75), weights=(0.5, 0.5))
    """
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return Path(tuple((0.5 * (nodes + 1)).tolist()), tuple((0.5 * weights).tolist()))
    if rule in ("trapezoid", "endpoints"):
        return _closed(steps, ends=0.5 if rule == "trapezoid" else 1.0)
    shift = {"left": 0.0, "right": 1.0, "middle": 0.5}[rule]
    return Path(tuple((i + shift) / steps for i in range(steps)), (1 / steps,) * steps)


def _closed(steps: int, ends: float) -> Path:
    if steps < 2:
        raise ParameterError(f"steps={steps}: the trapezoid and endpoints rules need at least 2 steps.")
    weights = [ends, *[1.0] * (steps - 2), ends]
    total = sum(weights)
    return Path(tuple(i / (steps - 1) for i in range(steps)), tuple(w / total for w in weights))


def baseline_of(given: Any, x: Tensor, how: Preprocessing, seed: int) -> Tensor:
    """Return the baseline (N, C, *S) that a name or a tensor stands for, in the model's own units.

    zero: 0 after normalising; black, white: those pixels before normalising; mean: each channel's mean of the
    image; blur: the image blurred by 1/10 of its size; uniform: random pixels; or a colour before normalising. A
    tensor must broadcast to ``x``. Raises ParameterError for another shape or name.
    """
    if isinstance(given, (Tensor, np.ndarray)):
        return _given_baseline(torch.as_tensor(given).to(x), x)
    if given == "zero":
        return torch.zeros_like(x)
    if given == "mean":
        return x.flatten(2).mean(2).reshape(*x.shape[:2], *[1] * (x.ndim - 2)).expand_as(x)
    if given == "blur":
        return gaussian_blur(x, max(x.shape[2:]) / 10)
    if given == "uniform":
        return next(uniform_images(x, 1, how, seed))
    colour = Colour.read(given)
    if colour is None:
        names = ", ".join(get_args(BaselineName))
        raise ParameterError(f"{given!r} is no baseline; wanted one of {names}, or a colour.")
    return _coloured(colour, x, how)


def _given_baseline(given: Tensor, x: Tensor) -> Tensor:
    if not bool(torch.isfinite(given).all()):
        raise ParameterError("the baseline or fill holds NaN or infinity; wanted finite, preprocessed values.")
    try:
        return given.expand_as(x)
    except RuntimeError:
        raise ParameterError(
            f"baseline of shape {tuple(given.shape)} does not fit the input {tuple(x.shape)}; "
            f"wanted {tuple(x.shape[1:])} or one for each image, already preprocessed."
        ) from None


def _coloured(colour: Colour, x: Tensor, how: Preprocessing) -> Tensor:
    levels, channels = colour.levels, x.shape[1]
    if len(set(levels)) == 1:
        levels = (levels[0],) * channels
    elif channels == 1 and len(levels) == 3:
        levels = (0.299 * levels[0] + 0.587 * levels[1] + 0.114 * levels[2],)
    elif len(levels) != channels:
        raise ParameterError(
            f"the colour {colour} has {len(levels)} channels and the input {channels}; give one number, one for each "
            "channel, or a tensor."
        )
    ordered = levels[::-1] if how.order == "bgr" else levels
    pixel = torch.tensor(ordered, dtype=torch.float64).to(x) / 255
    return _normalised(pixel.reshape(1, -1, *[1] * (x.ndim - 2)).expand_as(x), how)


def _normalised(pixels: Tensor, how: Preprocessing) -> Tensor:
    if how.channels != pixels.shape[1]:
        raise ParameterError(
            f"the input has {pixels.shape[1]} channels and its preprocessing {how.channels}, so black, white and "
            "uniform pixels and colours are unknown; give 'zero' or a tensor."
        )
    shape = (1, -1, *[1] * (pixels.ndim - 2))
    scaled = pixels * (255.0 / how.scale)
    return (scaled - torch.tensor(how.mean).to(pixels).reshape(shape)) / torch.tensor(how.std).to(pixels).reshape(shape)


def uniform_images(x: Tensor, count: int, how: Preprocessing, seed: int) -> Iterator[Tensor]:
    """Yield images (N, C, *S) of uniformly random pixels, the same for each image of the batch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        pixels = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64).to(x)
        yield _normalised(pixels.expand_as(x), how)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur (N, C, *S) by a Gaussian of ``sigma`` pixels, the border repeated."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(x)
    for axis in range(2, x.ndim):
        x = _blur_axis(x, kernel, axis)
    return x


def _blur_axis(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    lines = x.movedim(axis, -1)
    flat = lines.reshape(-1, 1, lines.shape[-1])
    radius = len(kernel) // 2
    padded = F.pad(flat, (radius, radius), mode="replicate")
    return F.conv1d(padded, kernel.reshape(1, 1, -1)).reshape(lines.shape).movedim(-1, axis)
