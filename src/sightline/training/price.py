"""What activity of a layer costs while a network learns: where it is to look, told with each example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Price", "charged"]


@dataclass(frozen=True, eq=False)
class Price:
    """What a unit of a layer's activity costs in each cell of each example: (N, 1, h, w), for maps (N, C, h, w).

    The loss grows by mean(activity x cost), over all examples, channels and cells.
    """

    layer: str
    costs: NDArray[np.float32]


@contextmanager
def charged(net: nn.Module, layer: str | None, costs: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield a list that takes what the layer's activity costs whenever the net runs; it stays empty without costs.

    Raises ParameterError where the net has no such layer, or one of another shape.
    """
    found: list[Tensor] = []
    if layer is None or not costs:
        yield found
        return

    def charge(_: nn.Module, __: object, maps: Tensor) -> None:
        found.append((_fitting(layer, maps, costs[0]) * costs[0]).mean())

    handle = _layer(net, layer).register_forward_hook(charge)
    try:
        yield found
    finally:
        handle.remove()


def _layer(net: nn.Module, name: str) -> nn.Module:
    try:
        return net.get_submodule(name)
    except AttributeError:
        known = ", ".join(n for n, _ in net.named_children())
        raise ParameterError(
            f"the data price the activity of layer '{name}', which the network lacks; wanted one that has it "
            f"(this one has {known}), or data without a price."
        ) from None


def _fitting(layer: str, maps: Tensor, costs: Tensor) -> Tensor:
    if maps.ndim != costs.ndim or maps.shape[2:] != costs.shape[2:]:
        raise ParameterError(
            f"the data price layer '{layer}' in {tuple(costs.shape)[2:]} cells, and its maps are "
            f"{tuple(maps.shape)}; wanted the network and the input size that the price was made for."
        )
    return maps.float()
