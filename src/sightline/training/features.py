"""What the frozen part of a network makes of each example, computed once where that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.forward import find_logits, layer_of
from sightline.models.model import Model
from sightline.models.session import called, undisturbed
from sightline.output import written
from sightline.training.batches import Examples, Key

__all__ = ["Features", "Tail", "features_of", "tail_of"]

_ALIKE = 1e-4  # of what a batch of one and a batch of two give, which differ by rounding alone


class Tail(nn.Module):
    """The learned end of a network, from features (N, ...) to logits (N, K).

    ``order`` is how the features lie in memory, on which the last bits can depend.
    """

    def __init__(self, learned: nn.Module, order: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.learned, self.order = learned, order

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        given = features.contiguous(memory_format=self.order)
        return find_logits(self.learned(given), len(given)).flatten(1)


@dataclass(frozen=True, eq=False)
class Features:
    """Features with labels or shares by (epoch, number), as `Examples` gives pictures; no epoch changes them."""

    values: NDArray[np.float32]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        _, number = key
        return torch.from_numpy(np.array(self.values[number])), self.labels[number]


@dataclass(eq=False)
class _Heard:
    """What a part was given and what it gave, with the count of in-place changes that this had then."""

    given: list[Tensor] = field(default_factory=list)
    gave: list[tuple[Tensor, int]] = field(default_factory=list)
    odd: bool = False

    def before(self, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        usable = bool(given) and isinstance(given[0], Tensor) and given[0].is_floating_point()
        self.odd = self.odd or not usable or bool(named) or len(given) > 1
        if usable:  # a copy, for the part itself may write into what it is given
            self.given.append(given[0].clone(memory_format=torch.contiguous_format))

    def after(self, _: nn.Module, __: Any, gave: Any) -> None:
        if isinstance(gave, Tensor):
            self.gave.append((gave, gave._version))


@contextmanager
def _listening(part: nn.Module) -> Iterator[_Heard]:
    heard = _Heard()
    handles = [
        part.register_forward_pre_hook(heard.before, with_kwargs=True),
        part.register_forward_hook(heard.after),
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def tail_of(model: Model, learned: str) -> Tail | None:
    """Return the learned part as a net of its own, or None where the logits are not just what it makes of one tensor.

    The part must be called once, with one tensor, and what it gives must be the logits themselves, untouched. On two
    random inputs that tensor is given to it again, and the logits must be the same, bit for bit; and the tensor must
    be the same a second time and for one input alone.
    """
    if not learned:
        return None
    part, x = model.module.get_submodule(learned), model.example_input().to(model.device, model.dtype)
    with undisturbed(model.module), torch.no_grad():
        (features, logits), (again, _) = (_run(model.module, part, torch.cat([x, -x])) for _ in range(2))
        alone, _ = _run(model.module, part, x)
        if features is None or alone is None or again is None or not torch.equal(features, again):
            return None
        orders = (torch.contiguous_format, torch.channels_last)[: 2 if features.ndim == 4 else 1]
        tails = [Tail(part, order) for order in orders]
        same = [tail for tail in tails if torch.equal(tail(features.clone()), logits)]
    return same[0] if same and _alike(features[:1], alone) else None


def _run(module: nn.Module, part: nn.Module, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return what the part was given, where its output is the logits, and the logits (N, K)."""
    with _listening(part) as heard:
        logits = find_logits(called(module, x), len(x))
    if heard.odd or len(heard.given) != 1 or len(heard.gave) != 1 or len(heard.given[0]) != len(x):
        return None, logits
    gave, version = heard.gave[0]
    itself = gave.data_ptr() == logits.data_ptr() and gave.numel() == logits.numel() and gave._version == version
    return (heard.given[0] if itself else None), logits.flatten(1)


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= _ALIKE * a.abs().max().clamp(min=1e-6))


def features_of(
    model: Model, learned: str, examples: Examples, file: Path, batch_size: int, on_step: Callable[[int], None]
) -> Features:
    """Run the frozen part over all examples and keep what it gives in ``file``, from which it is read as needed.

    Raises InputError where there is no space for it; nothing half-written is left.
    """
    part, shape = layer_of(model.module, learned), (0,)
    with undisturbed(model.module), torch.no_grad(), written(file) as aside, aside.open("wb") as stream:
        for start in range(0, len(examples), batch_size):
            rows = range(start, min(start + batch_size, len(examples)))
            x = torch.stack([examples.plain(n) for n in rows]).to(model.device, model.dtype)
            with _listening(part) as heard:
                called(model.module, x)
            found = heard.given[0].float().cpu().numpy()
            shape = found.shape[1:]
            _write(stream, found, file, len(examples))
            on_step(len(rows))
    values = np.memmap(file, np.float32, "r", shape=(len(examples), *shape))
    return Features(values, torch.from_numpy(examples.part.targets))


def _write(stream: Any, found: NDArray[np.float32], file: Path, count: int) -> None:
    try:
        stream.write(np.ascontiguousarray(found).data)
    except OSError as error:
        need = found.nbytes / len(found) * count / 2**20
        raise InputError(
            f"{file} cannot be written ({error.strerror or error}); the frozen layers' features need {need:,.0f} MiB "
            "there while the training runs: make room, or name another disk with --out DIR."
        ) from None
