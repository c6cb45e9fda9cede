"""Tiny nets, one for each thing that has broken an explanation tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ConvNet(nn.Module):
    """Plain modules: conv, batch norm, ReLU, pooling, one linear layer."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


class InplaceNet(nn.Module):
    """A convolution whose output an in-place ReLU overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv2(self.relu(self.conv(x)))).mean((2, 3)))


class FunctionalNet(nn.Module):
    """No ReLU module: F.relu, Tensor.relu, clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 6, 3, padding=1) for i in (3, 6, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        h = self.b(h).relu_()
        return self.head(self.c(h).clamp(min=0).mean((2, 3)))


class ResidualNet(nn.Module):
    """relu(h) + h, and one ReLU shared by two parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.left, self.right = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = self.relu(h) + h
        h = self.relu(self.left(h)) + self.relu(self.right(h))
        return self.head(h.mean((2, 3)))


class ChannelsLastNet(nn.Module):
    """Works on (N, H, W, C) inside, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.norm, self.mlp = nn.LayerNorm(12), nn.Linear(12, 12)
        self.act, self.head = nn.ReLU(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).permute(0, 2, 3, 1)
        h = h + self.act(self.mlp(self.norm(h)))
        return self.head(h.mean((1, 2)))


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return x + self.mlp(self.norm2(x))


class TokenNet(nn.Module):
    """A vision transformer with prefix tokens; the class token is read."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 12))
        self.blocks = nn.Sequential(Block(12), Block(12))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.prefix.expand(len(x), -1, -1), tokens), 1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class SignalNet(nn.Module):
    """One-dimensional convolutions on (N, C, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(2, 6, 5, padding=2), nn.ReLU(), nn.Conv1d(6, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean(2))


class VolumeNet(nn.Module):
    """Three-dimensional convolutions on (N, C, D, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3, 4)))


class SoftmaxNet(nn.Module):
    """Ends in a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.softmax = ConvNet(), nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.body(x))


class BinaryNet(nn.Module):
    """One output behind a sigmoid, squeezed to (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ConvNet(classes=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.body(x)).squeeze(1)


class DenseNet(nn.Module):
    """A dense output (N, K, H, W), as for segmentation, in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 1))
        nn.init.ones_(self.body[2].bias)  # so that its maps, which are scores, are not all negative

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.body(x)}


class SmoothNet(nn.Module):
    """GELU only: rectifying rules mean nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 6, 3, padding=1), nn.GELU())
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class LinearNet(nn.Module):
    """One linear layer on the pixels: its gradient is its weights."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class FirstReluNet(nn.Module):
    """An in-place ReLU on the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.conv, self.head = nn.ReLU(inplace=True), nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(self.relu(x))).mean((2, 3)))


class GateNet(nn.Module):
    """ReLU6 as an activation, and hard sigmoids written out in four ways, which are gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(2 * self.stem(x))
        h = h * (F.relu6(self.conv(h) + 3) / 6)
        h = h * F.relu6(h + 3) * (1 / 6)
        h = h * ((h + 3).clamp(0, 6) / 6)
        h = h * (0.2 * h + 0.5).clamp(0, 1)
        return self.head(h.mean((2, 3)))


class SliceReluNet(nn.Module):
    """An in-place ReLU on half the channels, which autograd hides in a CopySlices node."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h[:, :3].relu_()
        return self.head(h.relu().mean((2, 3)))


class CheckpointNet(nn.Module):
    """A checkpointed part with batch norm and dropout: it runs again during the backward pass."""

    def __init__(self, *, reentrant: bool = False) -> None:
        super().__init__()
        self.reentrant: bool | None = reentrant  # None: not checkpointed
        self.a, self.norm, self.drop = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.b, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def part(self, x: Tensor) -> Tensor:
        return F.relu(self.b(self.drop(F.relu(self.norm(self.a(x))))))

    def forward(self, x: Tensor) -> Tensor:
        h = self.part(x) if self.reentrant is None else checkpoint(self.part, x, use_reentrant=self.reentrant)
        return self.head(h.mean((2, 3)))


class StraightThrough(torch.autograd.Function):
    """A custom function: rounds, and passes the gradient on; the gradient of its second argument is None."""

    @staticmethod
    def forward(ctx, x: Tensor, other: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class CustomNet(nn.Module):
    """A custom autograd function, with a ReLU that gets no gradient through it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = StraightThrough.apply(F.relu(self.conv(x)), F.relu(self.other(x)))
        return self.head(h.mean((2, 3)))


class NoGradTrunkNet(nn.Module):
    """A trunk under no_grad, as one that is not trained often is: no gradient reaches the input."""

    def __init__(self, mode: Callable[[], Any] = torch.no_grad) -> None:
        super().__init__()
        self.mode = mode
        self.trunk, self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        with self.mode():
            h = self.trunk(x).relu()
        return self.head(self.conv(h).relu().mean((2, 3)))


IMAGE, SIGNAL, VOLUME = (3, 16, 16), (2, 24), (1, 6, 8, 8)

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (ConvNet, IMAGE),
    "inplace": (InplaceNet, IMAGE),
    "functional": (FunctionalNet, IMAGE),
    "residual": (ResidualNet, IMAGE),
    "channels_last": (ChannelsLastNet, (3, 32, 32)),
    "tokens": (TokenNet, (3, 32, 32)),
    "registers": (lambda: TokenNet(5), (3, 32, 48)),
    "signal": (SignalNet, SIGNAL),
    "volume": (VolumeNet, VOLUME),
    "softmax": (SoftmaxNet, IMAGE),
    "binary": (BinaryNet, IMAGE),
    "dense": (DenseNet, IMAGE),
    "smooth": (SmoothNet, IMAGE),
}


def settle(net: nn.Module, *shape: int, seed: int = 7) -> tuple[nn.Module, Tensor]:
    """Return the net in evaluation mode with drawn statistics, and inputs; global randomness untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        x = torch.randn(*shape)
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return net.eval(), x


def drawn(build: Callable[[], nn.Module], seed: int = 7) -> nn.Module:
    """Build a net with weights drawn from a seed; global randomness untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build().eval()


def make(name: str, dtype: torch.dtype = torch.float32, images: int = 3) -> tuple[nn.Module, Tensor]:
    """Return a net with drawn weights in evaluation mode and a batch of inputs; global randomness untouched."""
    build, shape = NETS[name]
    net, x = settle(drawn(build), images, *shape)
    return net.to(dtype), x.to(dtype)


def calibrated(name: str, size: int, images: int = 2) -> tuple[nn.Module, Tensor]:
    """Return a torchvision model with random weights whose batch norms fit its activations, and inputs."""
    from sightline.models.zoo import build

    net = build(name)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(3)
        x = torch.randn(4, 3, size, size)
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [m.momentum for m in norms]
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
        net.train()(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return net.eval(), x[:images]
