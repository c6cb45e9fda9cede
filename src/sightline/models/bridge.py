"""Keras models on JAX or TensorFlow as torch modules: values cross as arrays, gradients by that backend's own.

A layer's reading is an input of the bridge: the layer's output is shifted by (given - computed), which is zero, so that
the backend's gradient of the shift is the gradient at the layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Bridged", "bridged"]

_PATCHING = threading.RLock()  # layers are patched while a pass runs: one pass at a time
_Pullback = Callable[[np.ndarray], Sequence[np.ndarray]]
_HEADS = ("softmax", "sigmoid")


class Bridged(nn.Module):
    """A Keras model on another backend: (N, C, *S) tensors in, scores out, its layers as modules to be hooked."""

    def __init__(self, net: Any, channels_last: bool, layers: Mapping[str, Any]) -> None:
        super().__init__()
        self._keras = (net, dict(layers))  # in a tuple, for they are no parts of this module
        self.channels_last = channels_last
        self.proxies = nn.ModuleDict({str(i): _proxy(layer) for i, layer in enumerate(layers.values())})
        self.eval()

    @property
    def net(self) -> Any:
        """The Keras model."""
        return self._keras[0]

    @property
    def keras_layers(self) -> dict[str, Any]:
        """Its layers by name."""
        return self._keras[1]

    def named(self) -> dict[str, nn.Module]:
        """Return what stands for the layers, by their Keras names."""
        return dict(zip(self.keras_layers, self.proxies.values(), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Run the model on ``x`` (N, C, *S)."""
        native = x.movedim(1, -1) if self.channels_last else x
        heard = [n for n, proxy in self.named().items() if proxy._forward_hooks]
        with _PATCHING, _bare_head(self.net) as head:
            found = _captured(self, _array(native), heard)
            given = [self._heard(name, values, x) for name, values in found]
            scores = torch.as_tensor(_Bridge.apply(self, native, [n for n, _ in found], *given))  # type: ignore[no-untyped-call]
        return getattr(torch, head)(scores, -1) if head == "softmax" else torch.sigmoid(scores) if head else scores

    def _heard(self, name: str, values: np.ndarray, x: Tensor) -> Tensor:
        reading = torch.from_numpy(values).to(x.device)
        follows = torch.is_grad_enabled() and x.requires_grad
        return self.named()[name](reading.requires_grad_(follows))  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the model's weights by their Keras paths."""
        return {w.path: torch.from_numpy(np.array(w)) for w in self.net.weights}


def bridged(net: Any, channels_last: bool, layers: Mapping[str, Any]) -> Bridged:
    """Return a Keras model of another backend as a torch module."""
    return Bridged(net, channels_last, layers)


def _proxy(layer: Any) -> nn.Module:
    """Return an identity whose type has the layer's type's name, by which users know it."""
    proxy: nn.Module = type(type(layer).__name__, (nn.Identity,), {})()
    proxy.__dict__["get_weights"] = layer.get_weights
    return proxy


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float32)


@contextmanager
def _bare_head(net: Any) -> Iterator[str | None]:
    """Let the model end at its logits, where its last layer's activation can be taken off for the pass."""
    from sightline.models.keras import import_keras

    last = _last_layer(net)
    name = getattr(getattr(last, "activation", None), "__name__", None)
    if name not in _HEADS:
        yield None
        return
    before, last.activation = last.activation, import_keras().activations.linear
    try:
        yield name
    finally:
        last.activation = before


def _last_layer(net: Any) -> Any:
    """Return the layer whose output is the model's, or None where that cannot be told."""
    outputs = getattr(net, "outputs", None) or []
    history = getattr(outputs[0], "_keras_history", None) if len(outputs) == 1 else None
    operation = history.operation if history is not None else None
    return _last_layer(operation) if hasattr(operation, "layers") else operation


@contextmanager
def _patched(bridge: Bridged, names: Sequence[str], change: Callable[[str, Any], Any]) -> Iterator[None]:
    """Pass the outputs of the named layers through ``change`` while the context is open."""
    with ExitStack() as stack:
        for name in names:
            layer = bridge.keras_layers[name]
            stack.callback(delattr, layer, "call")
            layer.call = _after(layer.call, name, change)
        yield


def _after(call: Callable[..., Any], name: str, change: Callable[[str, Any], Any]) -> Callable[..., Any]:
    import functools

    @functools.wraps(call)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return change(name, call(*args, **kwargs))

    return changed


def _captured(bridge: Bridged, x: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Run the model once and return the named layers' outputs, call by call."""
    found: list[tuple[str, np.ndarray]] = []

    def keep(name: str, output: Any) -> Any:
        if hasattr(output, "shape"):
            found.append((name, np.array(output, dtype=np.float32)))
        return output

    if names:
        with _patched(bridge, names, keep):
            bridge.net(x, training=False)
    return found


class _Bridge(torch.autograd.Function):
    """Scores of (input, readings of layers), with the other backend's gradient."""

    @staticmethod
    def forward(ctx: Any, bridge: Bridged, x: Tensor, names: list[str], *readings: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad[i] for i in (1, *range(3, 3 + len(readings))))
        scores, ctx.pullback = _run(bridge, _array(x), names, [_array(r) for r in readings], wanted)
        return torch.from_numpy(scores).to(x.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        with _PATCHING:
            found = ctx.pullback(_array(gradients[0]))
        x, *readings = (torch.from_numpy(np.array(g, dtype=np.float32)).to(gradients[0].device) for g in found)
        return None, x, None, *readings


def _run(
    bridge: Bridged, x: np.ndarray, names: Sequence[str], readings: Sequence[np.ndarray], wanted: bool
) -> tuple[np.ndarray, _Pullback | None]:
    from sightline.models.keras import import_keras

    def scores(inputs: Any, given: Sequence[Any], stop: Callable[[Any], Any]) -> Any:
        queue = iter(given)

        def shifted(_: str, output: Any) -> Any:
            return output + (next(queue) - stop(output)) if hasattr(output, "shape") else output

        with _patched(bridge, sorted(set(names), key=names.index), shifted):
            return bridge.net(inputs, training=False)

    if not wanted:
        return np.array(scores(x, readings, lambda v: v), dtype=np.float32), None
    return _RECORDERS[import_keras().backend.backend()](scores, x, list(readings))


def _record_jax(scores: Any, x: np.ndarray, readings: list[np.ndarray]) -> tuple[np.ndarray, _Pullback]:
    import jax

    value, pullback = jax.vjp(lambda a, b: scores(a, b, jax.lax.stop_gradient), jax.numpy.asarray(x), readings)

    def pull(gradient: np.ndarray) -> Sequence[np.ndarray]:
        at_x, at_readings = pullback(jax.numpy.asarray(gradient))
        return [np.asarray(at_x), *map(np.asarray, at_readings)]

    return np.array(value), pull


def _record_tensorflow(scores: Any, x: np.ndarray, readings: list[np.ndarray]) -> tuple[np.ndarray, _Pullback]:
    import tensorflow as tf

    places = [tf.convert_to_tensor(v) for v in (x, *readings)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(places)
        value = scores(places[0], places[1:], tf.stop_gradient)

    def pull(gradient: np.ndarray) -> Sequence[np.ndarray]:
        found = tape.gradient(value, places, output_gradients=tf.convert_to_tensor(gradient))
        return [np.zeros(p.shape, np.float32) if g is None else g.numpy() for g, p in zip(found, places, strict=True)]

    return value.numpy(), pull


_RECORDERS = {"jax": _record_jax, "tensorflow": _record_tensorflow}
