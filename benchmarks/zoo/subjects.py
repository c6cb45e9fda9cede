"""A network made ready to be measured: no zero heads, fitted statistics, logits, and layers by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

_FAINT = ("gamma", "scale", "lambda", "alpha", "gain", "layer_scale", "resweight")


class Scores(nn.Module):
    """A network as a function of (N, C, H, W) to logits (N, K), whatever it returns by itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return _logits(self.net(x))

    def layer(self, name: str) -> nn.Module:
        return self.net.get_submodule(name)


class KerasScores(Scores):
    """The same for Keras: pictures with channels last, and the last softmax left out."""

    def forward(self, x: Tensor) -> Tensor:
        import keras

        last = next(part for part in reversed(self.net.layers) if hasattr(part, "activation"))
        before, last.activation = last.activation, keras.activations.linear
        try:
            return self.net(x.movedim(1, -1), training=False)
        finally:
            last.activation = before

    def layer(self, name: str) -> nn.Module:
        return self.net.get_layer(name)


def _logits(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return output.logits if hasattr(output, "logits") else output[0]


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained (``net``), the same as plain ``scores``, an input, and what is known of its layouts.

    ``prefix`` is the number of tokens that are no positions, where the architecture says it; ``gates`` says that its
    ReLU6 are hard sigmoids.
    """

    net: Any
    scores: Scores
    x: Tensor
    channels_last: bool = False
    prefix: int | None = None
    gates: bool = False

    def for_peer(self) -> Scores:
        """A frozen copy, for they may leave it changed. A Keras model is the same: copied, it would be another."""
        return self.scores if isinstance(self.scores, KerasScores) else copy.deepcopy(self.scores).requires_grad_(False)

    def double(self) -> Subject | None:
        """A copy in double precision, or None for Keras, whose layers convert to their own."""
        if isinstance(self.scores, KerasScores):
            return None
        scores = copy.deepcopy(self.scores).double()
        return replace(self, net=scores.net, scores=scores, x=self.x.double())


def pictures(count: int, size: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((count, channels, size, size), generator=generator)


def contrasts(size: int) -> Tensor:
    """Pictures from faint to noisy: norms fitted to one contrast alone make deep networks explode at the others."""
    return pictures(8, size) * torch.linspace(0.25, 2, 8).reshape(-1, 1, 1, 1)


def from_torch(net: nn.Module, size: int, **known: Any) -> Subject:
    redraw(net)
    calibrate(net.eval(), contrasts(size))
    return Subject(net, Scores(net), pictures(1, size), **known)


def from_keras(net: Any, size: int, **known: Any) -> Subject:
    import keras

    norms = [part for part in _keras_parts(net) if isinstance(part, keras.layers.BatchNormalization)]
    momenta = [n.momentum for n in norms]
    with drawn(), torch.no_grad():
        for variable in net.trainable_variables:
            if variable.name == "gamma":  # a norm's, or ConvNeXt's layer scale
                variable.value.uniform_(0.5, 1.5)
            elif variable.name == "beta":
                variable.value.normal_(0, 0.2)
        for norm in norms:
            norm.momentum = 0.0
        net(contrasts(size).movedim(1, -1), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return Subject(net, KerasScores(net), pictures(1, size), channels_last=True, **known)


def _keras_parts(net: Any) -> Iterator[Any]:
    yield from net._flatten_layers(include_self=False, recursive=True)


@torch.no_grad()
def redraw(net: nn.Module) -> None:
    """Draw anew what is initialised to nothing, so that every part of the network matters."""
    with drawn():
        for part in net.modules():
            weight = getattr(part, "weight", None)
            if "Norm" in type(part).__name__ and isinstance(weight, nn.Parameter) and weight.ndim == 1:
                weight.uniform_(0.5, 1.5)  # were they all one, a layer norm's output would add up to nothing
                if isinstance(getattr(part, "bias", None), nn.Parameter):
                    part.bias.normal_(0, 0.2)
            elif isinstance(weight, nn.Parameter) and weight.ndim > 1 and not weight.any():
                weight.normal_(0, weight[0].numel() ** -0.5)
            elif isinstance(weight, nn.Parameter) and not weight.any():  # a norm that shuts its branch off
                weight.uniform_(0.5, 1.5)
        for name, values in net.named_parameters():
            own = name.rpartition(".")[2].casefold()
            if any(word in own for word in _FAINT) and float(values.abs().max()) < 1e-2:
                values.uniform_(0.1, 1.0)


@torch.no_grad()
def calibrate(net: nn.Module, x: Tensor) -> None:
    """Fit batch norms to the activations, by one pass in which they alone are in training mode."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    net(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


@contextmanager
def drawn(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def built(make: Callable[[], Any]) -> Any:
    """Build a network with weights drawn from a seed; global randomness untouched."""
    with drawn():
        return make()
