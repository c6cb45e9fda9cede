"""The layers of a model in the order in which they run, and the one a CAM should read."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import LayerError
from sightline.forward import find_logits
from sightline.models.adapted import is_channels_last, main_part, named_layers
from sightline.models.layouts import Layout, find_layout, to_spatial
from sightline.models.session import called, is_scripted, undisturbed

__all__ = ["Layer", "trace_layers"]

_NO_MAPS = ("Pool", "Flatten", "Dropout", "DropPath", "StochasticDepth")
_ATTENTION = re.compile("attention|attn", re.IGNORECASE)
_LEAST_POSITIONS = 0.02


@dataclass(frozen=True)
class Layer:
    """One call of one layer: name (``relu@2`` for a second call), type, output shape (N, ...) and its map.

    ``default`` marks the one that CAMs read, ``last`` the last of each size up to that one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout | None = None
    default: bool = False
    last: bool = False

    @property
    def spatial(self) -> tuple[int, ...] | None:
        """The size of the layer's map, or None where the output has no positions."""
        return self.layout.grid if self.layout is not None and self.layout.positions > 1 else None


@dataclass(eq=False)
class _Event:
    layer: Layer
    output: Tensor
    is_map: bool
    is_part: bool = False


@dataclass(eq=False)
class _Heard:
    """What the hooks heard: every call, the input of the last linear layer, and which tensors are no maps."""

    root: nn.Module
    rows: int
    spatial: tuple[int, ...]
    events: list[_Event] = field(default_factory=list)
    final_input: Tensor | None = None
    mapless: set[tuple[int, int]] = field(default_factory=set)
    calls: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)

    def note(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls[name] = call = self.calls.get(name, 0) + 1
        if _is_linear(module) and inputs and isinstance(inputs[0], Tensor):
            self.final_input = inputs[0]
        output, _ = main_part(output)
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return
        # By identity and version: a container returns its last part's own tensor, an in-place op makes another.
        key = (id(output), 0 if output.is_inference() else output._version)
        mapless = any(word in type(module).__name__ for word in _NO_MAPS)
        if mapless and not (inputs and output is inputs[0]):  # dropout, when off, passes on what it was given
            self.mapless.add(key)
        layout = self._layout(output, is_channels_last(self.root, module))
        layer = Layer(f"{name}@{call}" if call > 1 else name, type(module).__name__, tuple(output.shape), layout)
        is_map = layer.spatial is not None and not mapless and key not in self.mapless
        # Keys and values are maps too, but of a step inside attention; a projection is one inside a block.
        is_part = _is_linear(module) or any(_ATTENTION.search(kind) for kind in self.running)
        self.events.append(_Event(layer, output, is_map, is_part))

    def _layout(self, output: Tensor, channels_last: bool) -> Layout | None:
        if output.ndim < 3 or output.shape[0] != self.rows or not output.requires_grad:
            return None  # what does not depend on the input is a table, as Swin's position biases are
        return find_layout(tuple(output.shape), self.spatial, channels_last=channels_last)


def trace_layers(module: nn.Module, x: Tensor, rows: int = 1) -> tuple[Layer, ...]:
    """List the layers that run for the first of ``x`` (N, C, *S), in execution order, the default CAM layer marked.

    ``rows`` is the batch size of the pass.

    The default is the last output with spatial extent whose positions still carry gradient and that is not
    pooling, flattening or dropout, nor, where there is another, a linear projection or a part of attention. Where
    the last layer's weights are all zero there is no gradient to follow, and that layer's input is followed instead.
    Raises LayerError for TorchScript.
    """
    if is_scripted(module):
        raise LayerError(
            "TorchScript runs without hooks, so its layers cannot be read; give the original module, or use a method "
            "that reads the input (gradient, integrated_gradients)."
        )
    heard = _Heard(module, rows, tuple(x.shape[2:]))
    with undisturbed(module), torch.enable_grad():  # backward too: checkpointed parts run again there
        leaf = x[:1].detach().contiguous().repeat(rows, *[1] * (x.ndim - 1)).requires_grad_(True)
        with _listening(module, heard):
            output = find_logits(called(module, leaf + 0), rows)
        default = _find_default(heard, output)
        last = _last_of_each_size(heard.events, default)
    return tuple(replace(e.layer, default=e is default, last=e in last) for e in heard.events)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Dense"


@contextmanager
def _listening(module: nn.Module, heard: _Heard) -> Iterator[None]:
    owner = threading.get_ident()

    def listen(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if threading.get_ident() == owner:
                heard.running.pop()
                heard.note(name, layer, inputs, output)

        return hook

    def begin(layer: nn.Module, _: Any) -> None:
        if threading.get_ident() == owner:
            heard.running.append(type(layer).__name__)

    with ExitStack() as stack:
        seen: set[nn.Module] = set()
        for name, layer in named_layers(module).items():
            if layer not in seen and not is_scripted(layer):
                seen.add(layer)
                stack.callback(layer.register_forward_pre_hook(begin).remove)
                stack.callback(layer.register_forward_hook(listen(name)).remove)
        yield


def _find_default(heard: _Heard, output: Tensor) -> _Event | None:
    latest = [e for e in reversed(heard.events) if e.is_map and e.output.requires_grad]
    candidates = [*(e for e in latest if not e.is_part), *(e for e in latest if e.is_part)]
    end = heard.final_input if _is_dead_end(output, heard.final_input) else output
    if end is None or not end.requires_grad:
        return None
    return _last_with_gradient(_random_projection(end), candidates)


def _last_of_each_size(events: Sequence[_Event], default: _Event | None) -> list[_Event]:
    """Go back from the default and take the first of each larger size; what branches off at another is no block."""
    if default is None:
        return []
    found = [default]
    for event in reversed(events[: events.index(default)]):
        if event.is_map and not event.is_part and event.output.requires_grad and _size(event) > _size(found[-1]):
            found.append(event)
    return found


def _size(event: _Event) -> int:
    return math.prod(event.layer.spatial or ())


def _is_dead_end(output: Tensor, final_input: Tensor | None) -> bool:
    if final_input is None or not final_input.requires_grad or not output.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(_random_projection(output), [final_input], retain_graph=True, allow_unused=True)
    return gradient is not None and not bool(gradient.any())


def _last_with_gradient(score: Tensor, candidates: Sequence[_Event]) -> _Event | None:
    """Look from the end, so that the backward pass is as short as can be."""
    checked: set[int] = set()
    for event in candidates:
        if id(event.output) in checked:
            continue
        checked.add(id(event.output))
        (gradient,) = torch.autograd.grad(score, [event.output], retain_graph=True, allow_unused=True)
        if gradient is not None and _carries(gradient, event.layer.layout):
            return event
    return None


def _random_projection(values: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(values.shape, generator=generator, dtype=torch.float32) + 0.5
    return (values * weights.to(values)).sum()


def _carries(gradient: Tensor, layout: Layout | None) -> bool:
    if layout is None:
        return False
    places = int((to_spatial(gradient, layout) != 0).any(1).sum())
    return places >= max(2, round(_LEAST_POSITIONS * layout.positions))
