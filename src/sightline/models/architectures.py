"""Small classic classifiers, untrained: the histology net, the net for MNIST-1D and those of the demo."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from sightline.demo.nets import DEMO_MEAN, DEMO_STD, small_cnn, small_vit
from sightline.demo.scenes import SIZE
from sightline.geometry import Preprocessing

__all__ = ["ARCHITECTURES", "Architecture", "mnist1d_cnn", "vgg7"]


def vgg7(classes: int = 8) -> nn.Module:
    """Return the net of the histology tiles: four convolutions, two poolings, from (N, 3, H, W) to logits (N, classes).

    66,088 parameters with eight classes. The poolings and the last convolution are where its maps are read.

    >>> vgg7()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 8])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = ((3, 32), (32, 32), (32, 64), (64, 64))
    for number, (inputs, outputs) in enumerate(widths, start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding="same")
        layers[f"relu{number}"] = nn.ReLU()
        if number % 2 == 0:
            layers[f"pool{number // 2}"] = nn.MaxPool2d(2)
    parts = {"features": nn.Sequential(layers), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return _drawn(nn.Sequential(OrderedDict(parts, head=nn.Linear(widths[-1][1], classes))))


def mnist1d_cnn(classes: int = 10, length: int = 40) -> nn.Module:
    """Return the net of MNIST-1D: three convolutions without pooling, from (N, 1, 40) to logits (N, classes).

    13,960 parameters with ten classes.

    >>> mnist1d_cnn()(torch.zeros(2, 1, 40)).shape
    torch.Size([2, 10])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, kernel) in enumerate(((1, 5), (25, 3), (25, 3)), start=1):
        layers[f"conv{number}"] = nn.Conv1d(inputs, 25, kernel, padding="same")
        layers[f"relu{number}"] = nn.ReLU()
    parts = {"features": nn.Sequential(layers), "flatten": nn.Flatten()}
    return _drawn(nn.Sequential(OrderedDict(parts, head=nn.Linear(25 * length, classes))))


def _drawn(net: nn.Module) -> nn.Module:
    """Draw the weights as the recorded nets began: Glorot's uniform, the head N(0, 0.5^2), and no biases."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.5)
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return net


def _small_vit(classes: int = 6) -> nn.Module:
    net = small_vit(classes)
    for name in ("positions", "class_token"):
        nn.init.normal_(net.get_parameter(name), std=0.02)
    return net


@dataclass(frozen=True)
class Architecture:
    """How a net is made, what it takes, and how many classes it has unless it is told."""

    make: Callable[[int], nn.Module]
    preprocessing: Preprocessing
    classes: int
    dims: int = 2
    input_size: tuple[int, ...] | None = None

    def build(self, classes: int | None = None, seed: int = 0) -> nn.Module:
        """Return the net with weights drawn from a seed; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make(classes or self.classes).eval()


_DEMO = Preprocessing(resize=SIZE, crop=SIZE, mean=DEMO_MEAN, std=DEMO_STD)
_UNIT = Preprocessing(resize=(224, 224), crop=None, mean=(0.0,) * 3, std=(1.0,) * 3, fit="squash")
_SERIES = Preprocessing(resize=None, crop=None, mean=(0.0,), std=(1.0,), scale=1.0)

ARCHITECTURES: Mapping[str, Architecture] = {
    "vgg7": Architecture(vgg7, _UNIT, 8),
    "mnist1d-cnn": Architecture(mnist1d_cnn, _SERIES, 10, dims=1, input_size=(40,)),
    "small-cnn": Architecture(small_cnn, _DEMO, 6),
    "small-vit": Architecture(_small_vit, _DEMO, 6),
}
