"""Examples as a model takes them, in an order and with changes that follow from seed, epoch and example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from sightline.errors import InputError
from sightline.geometry import Preprocessing, prepare
from sightline.images import MAX_PIXELS, read_image
from sightline.signals import read_signal, standardised
from sightline.training.augment import Augmentation
from sightline.training.data import Part

__all__ = ["Examples", "epoch_seed", "order", "step_seed", "weights_of_classes"]

Key = tuple[int, int]
_AUGMENT = 2  # apart from the draws of `order` and `epoch_seed`


@dataclass(frozen=True, eq=False)
class Examples:
    """A part as inputs (C, *S) with labels or shares (K,), by (epoch, number): a key gives the same, in any process.

    Where the part has a price, its costs (1, h, w) come third, turned and cropped as the input is.
    """

    part: Part
    how: Preprocessing
    dims: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, key: Key) -> tuple[Tensor, ...]:
        epoch, number = key
        moving = [self.plain(number)]
        if self.part.price is not None:
            moving.append(torch.from_numpy(self.part.price.costs)[number])
        if not self.augmentation.is_none:
            rng = np.random.default_rng((self.seed, epoch, number, _AUGMENT))
            matrix = self.augmentation.matrix(rng, (moving[0].shape[1], moving[0].shape[2]))
            moving = [_resampled(m, matrix) for m in moving]
        return moving[0], torch.from_numpy(self.part.targets)[number], *moving[1:]

    def plain(self, number: int) -> Tensor:
        """Return an example without augmentation."""
        given: Any = self.part.images[number]
        if self.dims == 2:
            picture = read_image(given, channels=self.how.channels, max_pixels=self.max_pixels)
            return prepare(picture, self.how)[0]
        return standardised(read_signal(given, dims=self.dims, channels=self.how.channels).values, self.how)[0]


def _resampled(x: Tensor, matrix: np.ndarray) -> Tensor:
    grid = affine_grid(torch.from_numpy(matrix)[None].to(x.dtype), [1, *x.shape], align_corners=False)
    return grid_sample(x[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]


def order(count: int, epoch: int, seed: int, most: int | None = None) -> list[Key]:
    """Return an epoch's examples in their drawn order, all of them or ``most``; a part that is too small goes round.

    >>> order(3, 0, seed=0) == order(3, 0, seed=0), len(order(3, 1, seed=0, most=7))
    (True, 7)
    """
    rng = np.random.default_rng((seed, epoch))
    wanted = count if most is None else most
    drawn = np.concatenate([rng.permutation(count) for _ in range(-(-wanted // count))])[:wanted]
    return [(epoch, int(number)) for number in drawn]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of what an epoch draws besides its order."""
    return int(np.random.SeedSequence((seed, epoch, 1)).generate_state(1)[0])


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of what a step draws besides, such as dropout.

    >>> step_seed(0, 0, 0) != step_seed(0, 1, 0)
    True
    """
    return int(np.random.SeedSequence((seed, epoch, step)).generate_state(1)[0])


def weights_of_classes(counts: Sequence[int], asked: str) -> list[float] | None:
    """Return N / (K n_c), each class's weight in the loss, or None where all weigh the same.

    "auto" balances where one class has more than 1.5 times the images of another.
    Raises InputError where a class has none, for its weight would be infinite.

    >>> weights_of_classes([30, 10], "auto")
    [0.6666666666666666, 2.0]
    """
    uneven = max(counts) > (1.5 if asked == "auto" else 1) * min(counts)
    if asked == "none" or not uneven:
        return None
    if min(counts) == 0:
        raise InputError(f"class {list(counts).index(0)} has no image to learn from; leave it out, or add images.")
    return [sum(counts) / (len(counts) * n) for n in counts]
