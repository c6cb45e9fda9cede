"""Modules that are called, named or laid out in their own way, and how the engine finds a module's layers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sightline.models.layouts import channels_last_hint

__all__ = [
    "Adapted",
    "bare",
    "find_layer",
    "is_channels_last",
    "linear_weight",
    "main_part",
    "named_layers",
    "tensors_of",
]


class Adapted(nn.Module):
    """A module of another kind as one that maps (N, C, *S) to scores.

    ``call(inner, x)`` runs it and returns whatever it returns. ``layers`` are its parts by the names that its users
    know, where they are not its submodules' own; ``channels_last`` says that its activations are (N, *S, C).
    ``precisions`` are those that it can be run in.
    """

    def __init__(
        self,
        inner: nn.Module,
        call: Callable[[Any, Tensor], Any],
        *,
        layers: Callable[[Any], Mapping[str, nn.Module]] | None = None,
        channels_last: bool = False,
        precisions: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.channels_last = channels_last
        self.precisions = precisions
        self._call_inner = call
        self._named = layers
        self.training = inner.training

    def forward(self, x: Tensor) -> Any:
        """Run the inner module on ``x`` (N, C, *S)."""
        return self._call_inner(self.inner, x)

    def named(self) -> dict[str, nn.Module]:
        """Return the inner module's parts by name."""
        if self._named is not None:
            return dict(self._named(self.inner))
        return named_layers(self.inner)

    @property
    def has_usual_names(self) -> bool:
        """Whether the parts are found by the inner module's own dotted names."""
        return self._named is None and not isinstance(self.inner, Named)


def bare(module: nn.Module) -> nn.Module:
    """Return the user's own module: what is inside an `Adapted` and inside ``torch.compile``'s wrapper."""
    if isinstance(module, Adapted):
        return bare(module.inner)
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


@runtime_checkable
class Named(Protocol):
    """A module whose parts have names of their own, and whose activations may be (N, *S, C)."""

    channels_last: bool

    def named(self) -> dict[str, nn.Module]:
        """Return the parts by name."""


def named_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return every named part of the module, shared ones under each of their names."""
    if isinstance(module, Named):
        return module.named()
    return {n: m for n, m in bare(module).named_modules(remove_duplicate=False) if n}


def find_layer(module: nn.Module, name: str) -> nn.Module | None:
    """Return the part of that name, or None."""
    if isinstance(module, Named) and not getattr(module, "has_usual_names", False):
        return module.named().get(name)
    found = bare(module)
    for part in name.split("."):
        if part not in found._modules or found._modules[part] is None:
            return None
        found = getattr(found, part)
    return found


def is_channels_last(module: nn.Module, layer: nn.Module | None) -> bool:
    """Say whether the layer's output probably has its channels last, from the module's kind or the layer's type."""
    return (isinstance(module, Named) and module.channels_last) or channels_last_hint(layer)


def linear_weight(layer: nn.Module) -> Tensor | None:
    """Return the matrix (outputs, inputs) of a linear layer, 1x1 convolution or Keras Dense layer, or None."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    if isinstance(layer, nn.Conv2d) and layer.weight[0, 0].numel() == 1:
        return layer.weight.flatten(1)
    if type(layer).__name__ in ("Dense", "Conv2D") and hasattr(layer, "get_weights"):
        read: Any = layer.get_weights  # Keras' own, which also works off torch
        kernel = torch.as_tensor(read()[0])
        return kernel.flatten(0, -2).T if kernel.numel() == kernel.shape[-2] * kernel.shape[-1] else None
    return None


def main_part(output: Any) -> tuple[Any, int | None]:
    """Return what a layer mainly gives, and its place: a block may return its one map in a tuple, with other things."""
    if not isinstance(output, (tuple, list)):
        return output, None
    places = [i for i, part in enumerate(output) if isinstance(part, Tensor) and part.ndim > 2]
    return (output[places[0]], places[0]) if len(places) == 1 else (output, None)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers by name, of the user's own module, wherever it keeps them."""
    own = bare(module)
    elsewhere = getattr(own, "tensors", None)
    if callable(elsewhere):
        return dict(elsewhere())
    if hasattr(own, "get_weights"):
        weights: Any = own.weights
        return {w.path: torch.as_tensor(w.value) for w in weights}
    return {name: v for name, v in sorted(own.state_dict().items()) if isinstance(v, Tensor)}
