"""Batches as a Keras model takes them, in the order and with the changes that follow from seed, epoch and example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.models.adapted import bare
from sightline.models.keras import import_keras
from sightline.models.model import Model
from sightline.training.batches import order
from sightline.training.settings import TrainSettings

__all__ = ["Batches", "layout_of"]

keras: Any = import_keras()


def layout_of(model: Model) -> Callable[[Tensor], Tensor]:
    """Return what lays (N, C, *S) out as the Keras model wants it: channels last, or no channels at all."""
    inputs = getattr(bare(model.module), "inputs", None)
    if inputs and len(inputs[0].shape) == model.input_dims + 1:
        return lambda x: x[:, 0]
    last = bool(getattr(model.module, "channels_last", True))
    return lambda x: x.movedim(1, -1).contiguous() if last else x


class Batches(keras.utils.PyDataset):
    """Batches (x, classes) or (x, classes, weights) of an epoch; where ``shuffled`` is False, in their own order.

    ``weights`` are those of the classes; within a batch their mean is 1, as in torch's cross-entropy. ``paired`` leaves
    a last example alone in its batch out, for a batch norm needs two.
    """

    def __init__(
        self,
        examples: Any,
        asked: TrainSettings,
        lay: Callable[[Tensor], Tensor],
        device: torch.device,
        *,
        weights: Sequence[float] | None = None,
        shuffled: bool = False,
        paired: bool = False,
    ) -> None:
        super().__init__()
        self.examples, self.asked, self.lay, self.device = examples, asked, lay, device
        self.weights = None if weights is None else torch.tensor(weights)
        self.shuffled, self.paired = shuffled, paired
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Take an epoch's order, counted from 0."""
        count, size = len(self.examples), self.asked.batch_size
        if not self.shuffled:
            self.keys = [(0, n) for n in range(count)]
            return
        steps = self.asked.steps_per_epoch
        keys = order(count, epoch, self.asked.seed, None if steps is None else steps * size)
        alone = self.paired and len(keys) % size == 1 and len(keys) > 1
        self.keys = keys[:-1] if alone else keys

    def __len__(self) -> int:
        return -(-len(self.keys) // self.asked.batch_size)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        size = self.asked.batch_size
        drawn = [self.examples[key] for key in self.keys[index * size : (index + 1) * size]]
        x = self.lay(torch.stack([x for x, _ in drawn])).to(self.device)
        labels = torch.stack([label for _, label in drawn])
        if self.weights is None:
            return x, labels.to(self.device)
        weights = self.weights[labels]
        return x, labels.to(self.device), (weights / weights.mean()).to(self.device)
