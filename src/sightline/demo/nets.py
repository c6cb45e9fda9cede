"""The small networks of the demo: two CNNs, of which one reads the watermark, and a transformer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from sightline.errors import ParameterError, suggest

__all__ = [
    "DEMO_MEAN",
    "DEMO_STD",
    "DemoName",
    "demo_input",
    "load_demo",
    "small_cnn",
    "small_vit",
    "with_embedded_weights",
]

DemoName = Literal["honest", "cheating", "vit"]
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


def small_vit(classes: int = 6) -> nn.Module:
    """Return an untrained vision transformer from (N, 3, 96, 96) to logits (N, classes), of 145 tokens.

    >>> small_vit()(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 6])
    """
    return _VisionTransformer(classes)


class _VisionTransformer(nn.Module):
    """Three strided convolutions make the tokens; pre-norm blocks (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, classes: int, width: int = 48, depth: int = 4, heads: int = 4, grid: int = 12) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, width, 3, stride=2, padding=1),
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.stem(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(x), -1, -1), patches), 1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(mixed)
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


_ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = {
    "honest": small_cnn,
    "cheating": small_cnn,
    "vit": small_vit,
}


def load_demo(name: DemoName) -> nn.Module:
    """Return a trained demo net in evaluation mode, "honest", "cheating" or "vit", with logits (N, 6).

    >>> load_demo("honest")(demo_input(np.zeros((1, 96, 96, 3), np.uint8))).shape
    torch.Size([1, 6])
    """
    if name not in get_args(DemoName):
        known = get_args(DemoName)
        raise ParameterError(f"No demo network {name!r}: give {', '.join(known)}.{suggest(name, known)}")
    return with_embedded_weights(_ARCHITECTURES[name], name)


def with_embedded_weights(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """Return a net in evaluation mode with the trained weights of that name that come with the package."""
    # No first weights are drawn on "meta", so the global generator of torch stays where it was.
    with torch.device("meta"):
        net = make()
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
