"""Controls: maps that know nothing of the model, to be beaten by any method that claims to."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.methods.registry import method
from sightline.recording import Recording

__all__ = ["centre", "constant", "edges", "random"]


@method(
    family="control", cite="Adebayo et al. 2018, arXiv:1810.03292 (random maps)", reads="scores", style="sequential"
)
def random(rec: Recording) -> Tensor:
    """Uniform noise from 0 to 1, drawn for each image by the seed and its pixels: to be beaten by any explanation."""
    return torch.stack([_noise(image, rec.seed) for image in rec.x])


def _noise(image: Tensor, seed: int) -> Tensor:
    """Draw noise (*S) that is the same for an image in any batch, and another for another image."""
    digest = hashlib.sha256(image.detach().float().cpu().contiguous().numpy().tobytes()).digest()
    generator = torch.Generator().manual_seed((seed ^ int.from_bytes(digest[:7], "big")) % 2**63)
    return torch.rand(image.shape[1:], generator=generator, dtype=torch.float64).to(image)


@method(
    family="control",
    cite="Adebayo et al. 2018, arXiv:1810.03292, sec. 4 (an edge detector)",
    reads="scores",
    style="sequential",
)
def edges(rec: Recording) -> Tensor:
    """The image's own edges, the size of its Sobel gradient: what a sharp-looking map may be mistaken for."""
    grey = rec.x.mean(1, keepdim=True)
    squares = (_sobel(grey, axis).squeeze(1) ** 2 for axis in range(2, grey.ndim))
    return torch.stack(list(squares)).sum(0).sqrt()


def _sobel(x: Tensor, along: int) -> Tensor:
    """Differentiate along one axis and smooth by (1, 2, 1) along the others, the border repeated."""
    for axis in range(2, x.ndim):
        kernel = torch.tensor([-1.0, 0.0, 1.0] if axis == along else [1.0, 2.0, 1.0]).to(x)
        lines = x.movedim(axis, -1)
        flat = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (1, 1), mode="replicate")
        x = F.conv1d(flat, kernel.reshape(1, 1, 3)).reshape(lines.shape).movedim(-1, axis)
    return x


@method(
    family="control", cite="Judd et al. 2012, MIT-CSAIL-TR-2012-001 (centre bias)", reads="scores", style="sequential"
)
def centre(rec: Recording) -> Tensor:
    """A Gaussian on the middle of the image, a quarter of each side wide: where photographers put the object."""
    axes = [torch.linspace(-2, 2, side, dtype=torch.float64) for side in rec.x.shape[2:]]
    distances = torch.stack(torch.meshgrid(*axes, indexing="ij")).pow(2).sum(0)
    return torch.exp(-distances / 2).to(rec.x).expand(len(rec.x), *distances.shape)


@method(family="control", cite="Sightline 2026 (the area of a region as its share)", reads="scores", style="sequential")
def constant(rec: Recording) -> Tensor:
    """The same value everywhere: a region's share of it is the region's area."""
    return torch.ones_like(rec.x[:, 0])
