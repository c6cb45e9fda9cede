"""What is to be explained, as the caller says it: a class, several, a contrast, an output, a region, a unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from sightline.labels import Labels

__all__ = [
    "Contrast",
    "Joint",
    "Output",
    "PerImage",
    "Region",
    "Regression",
    "Similarity",
    "Target",
    "TargetName",
    "Unit",
    "contrast",
    "joint",
    "layers_of",
    "part_of",
    "per_image",
    "region",
    "regression",
    "similarity",
    "split_targets",
    "unit",
]

Output = Literal["logit", "probability", "log_probability"]


@dataclass(frozen=True)
class TargetName:
    """What one explanation explains: the output's index, where there is one, and a label for people."""

    index: int | None
    label: str


@dataclass(frozen=True)
class Contrast:
    """Why ``wanted`` rather than ``other``: the difference of their scores."""

    wanted: Target
    other: Target


@dataclass(frozen=True)
class Joint:
    """Several classes at once: the sum of their scores."""

    parts: tuple[Target, ...]


@dataclass(frozen=True)
class PerImage:
    """One target for each image of the call, in its order."""

    parts: tuple[Target, ...]


@dataclass(frozen=True)
class Regression:
    """The value of output ``index`` itself, for models that predict numbers and not classes."""

    index: int = 0


@dataclass(frozen=True, eq=False)
class Region:
    """The mean score of a class over a region of a dense output (N, K, H, W)."""

    target: Target
    mask: Any = None


@dataclass(frozen=True)
class Unit:
    """The mean activation of a layer, of one channel of it, or of one position of that channel."""

    layer: str
    channel: int | None = None
    position: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Similarity:
    """The cosine similarity between the model's output and an embedding (D,) or (N, D)."""

    embedding: Any


Target: TypeAlias = (
    "str | int | Contrast | Joint | PerImage | Regression | Region | Unit | Similarity | Callable[[Tensor], Tensor]"
)


def contrast(wanted: Target, other: Target) -> Contrast:
    """Ask why ``wanted`` rather than ``other``: the score is s(wanted) - s(other).

    >>> contrast("bull mastiff", "tiger cat")
    Contrast(wanted='bull mastiff', other='tiger cat')
    """
    return Contrast(wanted, other)


def joint(*parts: Target) -> Joint:
    """Explain several classes at once: the score is the sum of theirs."""
    return Joint(parts)


def per_image(targets: Sequence[Target]) -> PerImage:
    """Give each image of the call its own target, in the order of the images."""
    return PerImage(tuple(targets))


def regression(index: int = 0) -> Regression:
    """Explain the value of output ``index`` as it is, with no class behind it."""
    return Regression(index)


def region(target: Target, mask: Any = None) -> Region:
    """Explain a class over a region (H, W) of a dense output (N, K, H, W); None is the whole picture."""
    return Region(target, mask)


def unit(layer: str, channel: int | None = None, position: tuple[int, ...] | None = None) -> Unit:
    """Explain a layer's mean activation, one channel's, or one position's of that channel."""
    return Unit(layer, channel, position)


def similarity(embedding: Any) -> Similarity:
    """Explain the cosine similarity of the model's output to an embedding (D,) or one per image (N, D)."""
    return Similarity(embedding)


def layers_of(target: Target) -> tuple[str, ...]:
    """Return the layers that have to be tapped for the target."""
    if isinstance(target, Unit):
        return (target.layer,)
    if isinstance(target, Contrast):
        return layers_of(target.wanted) + layers_of(target.other)
    if isinstance(target, (Joint, PerImage)):
        return tuple(name for part in target.parts for name in layers_of(part))
    return ()


def part_of(target: Target, images: list[int]) -> Target:
    """Return the target of some images of a call: what was given one for each image is cut, the rest is shared."""
    match target:
        case PerImage(parts) if max(images) < len(parts):
            return PerImage(tuple(parts[i] for i in images))
        case Similarity(embedding) if np.ndim(embedding) == 2 and max(images) < len(embedding):
            return Similarity(_rows(embedding, images))
        case Region(inner, mask):
            own = np.ndim(mask) == 3 and max(images) < len(mask)
            return Region(part_of(inner, images), _rows(mask, images) if own else mask)
        case Contrast(wanted, other):
            return Contrast(part_of(wanted, images), part_of(other, images))
        case Joint(parts):
            return Joint(tuple(part_of(p, images) for p in parts))
    return target


def _rows(values: Any, images: list[int]) -> Any:
    return values[images] if hasattr(values, "shape") else [values[i] for i in images]


def split_targets(text: str, labels: Labels) -> list[str]:
    """Split a comma-separated list of targets; a comma inside a label that the model has does not split it.

    >>> split_targets("top1, 7", Labels(()))
    ['top1', '7']
    """
    pieces, found = text.split(","), []
    while pieces:
        size = next((s for s in range(len(pieces), 0, -1) if labels.has(",".join(pieces[:s]).strip())), 1)
        found.append(",".join(pieces[:size]).strip())
        pieces = pieces[size:]
    return [f for f in found if f]
