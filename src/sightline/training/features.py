"""What the frozen part of a network makes of each example, computed once where that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.forward import find_logits, layer_of
from sightline.models.model import Model
from sightline.models.session import undisturbed
from sightline.training.batches import Examples, Key

__all__ = ["Features", "Tail", "features_of", "tail_of"]


class Tail(nn.Module):
    """The learned end of a network, from features (N, ...) to logits (N, K)."""

    def __init__(self, learned: nn.Module) -> None:
        super().__init__()
        self.learned = learned

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.learned(features).flatten(1)
        return logits


@dataclass(frozen=True, eq=False)
class Features:
    """Features with labels by (epoch, number), as `Examples` gives pictures; no epoch changes them."""

    values: NDArray[np.float32]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        _, number = key
        return torch.from_numpy(np.array(self.values[number])), self.labels[number]


def tail_of(model: Model, learned: str) -> Tail | None:
    """Return the learned part as a net of its own, or None where the logits are not just what it makes of one tensor.

    Two random inputs are tried: what it was given is given to it again, and the logits must be the same, bit for bit.
    """
    if not learned:
        return None
    tail, x = Tail(model.module.get_submodule(learned)), model.example_input().to(model.device, model.dtype)
    x = torch.cat([x, -x])
    with undisturbed(model.module), torch.no_grad():
        with _heard(tail.learned) as calls:
            logits = find_logits(model.module(x), len(x))
        if len(calls) != 1 or len(calls[0]) != 1 or not isinstance(calls[0][0], Tensor):
            return None
        again = tail(calls[0][0])
    return tail if again.shape == logits.shape and torch.equal(again, logits) else None


@contextmanager
def _heard(part: nn.Module) -> Iterator[list[tuple[Any, ...]]]:
    calls: list[tuple[Any, ...]] = []
    handle = part.register_forward_pre_hook(lambda _, given: calls.append(given))
    try:
        yield calls
    finally:
        handle.remove()


def features_of(
    model: Model, learned: str, examples: Examples, file: Path, batch_size: int, on_step: Callable[[int], None]
) -> Features:
    """Run the frozen part over all examples and keep what it gives in ``file``, from which it is read as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part, shape = layer_of(model.module, learned), (0,)
    with file.open("wb") as stream, undisturbed(model.module), torch.no_grad(), _heard(part) as calls:
        for start in range(0, len(examples), batch_size):
            rows = range(start, min(start + batch_size, len(examples)))
            model.module(torch.stack([examples.plain(n) for n in rows]).to(model.device, model.dtype))
            found = calls.pop()[0].float().cpu().numpy()
            shape = found.shape[1:]
            found.tofile(stream)
            on_step(len(rows))
    values = np.memmap(file, np.float32, "r", shape=(len(examples), *shape))
    return Features(values, torch.from_numpy(examples.part.labels))
