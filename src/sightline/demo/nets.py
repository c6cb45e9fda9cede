"""The two small networks of the demo: one reads the shape, the other reads the watermark."""

from __future__ import annotations

from collections import OrderedDict
from importlib import resources
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from sightline.errors import ParameterError, suggest

__all__ = ["DEMO_MEAN", "DEMO_STD", "DemoName", "demo_input", "load_demo", "small_cnn"]

DemoName = Literal["honest", "cheating"]
DEMO_MEAN = (0.5, 0.5, 0.5)
DEMO_STD = (0.25, 0.25, 0.25)

# Channels into and out of each convolution; a pooling stands before every stage but the first.
_STAGES = (((3, 16),), ((16, 32),), ((32, 48), (48, 64)), ((64, 96),))


def small_cnn(classes: int = 6) -> nn.Module:
    """Return an untrained net from (N, 3, 96, 96) to logits (N, classes); its last maps are (N, 96, 12, 12).

    >>> small_cnn()(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 6])
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(features=_features())
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["head"] = nn.Linear(_STAGES[-1][-1][1], classes)
    return nn.Sequential(parts)


def load_demo(name: DemoName) -> nn.Module:
    """Return a trained demo net in evaluation mode, "honest" or "cheating", with logits (N, 6).

    >>> load_demo("honest")(demo_input(np.zeros((1, 96, 96, 3), np.uint8))).shape
    torch.Size([1, 6])
    """
    if name not in get_args(DemoName):
        known = get_args(DemoName)
        raise ParameterError(f"No demo network {name!r}: give {' or '.join(known)}.{suggest(name, known)}")
    # No first weights are drawn on "meta", so the global generator of torch stays where it was.
    with torch.device("meta"):
        net = small_cnn()
    packed = resources.files("sightline.demo").joinpath("weights", f"{name}.safetensors").read_bytes()
    net.load_state_dict(load(packed), assign=True)
    return net.eval()


def demo_input(images: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 pictures (N, 96, 96, 3) into what the nets take: float32 (N, 3, 96, 96), -2 to 2.

    >>> demo_input(np.full((1, 96, 96, 3), 255, np.uint8)).unique()
    tensor([2.])
    """
    scaled = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (DEMO_MEAN, DEMO_STD))
    return (scaled - mean) / std


def _features() -> nn.Sequential:
    """Stack the stages under readable names: conv1, norm1, relu1, pool1, conv2 ..."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for stage, convolutions in enumerate(_STAGES):
        if stage:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        for inputs, outputs in convolutions:
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(layers)
