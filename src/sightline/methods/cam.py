"""Class activation maps: functions of a layer's activation and its gradient, (N, *S of the layer)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.methods.registry import Range, method
from sightline.models.adapted import linear_weight, named_layers
from sightline.models.session import undisturbed
from sightline.points import NoiseScale, noisy
from sightline.recording import Recording

Scaling = Literal["none", "max", "mean-square"]


def spatial_sum(values: Tensor) -> Tensor:
    """Sum (N, C, *S) over positions, which stay as dimensions of size 1."""
    return values.sum(dim=tuple(range(2, values.ndim)), keepdim=True)


def spatial_mean(values: Tensor) -> Tensor:
    """Average (N, C, *S) over positions, which stay as dimensions of size 1."""
    return values.mean(dim=tuple(range(2, values.ndim)), keepdim=True)


def rectified(values: Tensor, relu: bool) -> Tensor:
    """Cut off what is negative, if asked to."""
    return values.clamp(min=0) if relu else values


def _scaled(g: Tensor, scaling: Scaling) -> Tensor:
    if scaling == "max":  # keras-vis
        return g / (g.flatten(1).amax(1) + 1e-7).reshape(-1, *[1] * (g.ndim - 1))
    if scaling == "mean-square":  # a widespread Keras example
        return g / (g.square().flatten(1).mean(1) + 1e-5).reshape(-1, *[1] * (g.ndim - 1))
    return g


@method(family="cam", cite="Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2", reads="layer")
def grad_cam(
    rec: Recording,
    channels: Literal["sum", "mean"] = "sum",
    relu: bool = True,
    guided: bool = False,
    scaling: Scaling = "none",
) -> Tensor:
    """Activations weighted by the mean gradient of their channel: ReLU(sum_k mean(g_k) A_k).

    ``guided`` keeps only positive gradients of positive activations, as tf-explain does.
    """
    a, g = rec.activation(), _scaled(rec.gradient("layer"), scaling)
    g = g * (a > 0) * (g > 0) if guided else g
    weighted = spatial_mean(g) * a
    return rectified(weighted.sum(1) if channels == "sum" else weighted.mean(1), relu)


@method(family="cam", cite="Zhou et al. 2016, arXiv:1512.04150, eq. 1-2", reads="layer")
def cam(rec: Recording, relu: bool = True) -> Tensor:
    """Activations weighted by the class's own weights, where a net ends in average pooling and one linear layer."""
    a, g = rec.activation(), rec.gradient("layer")
    weights = spatial_sum(g)
    if not _is_linear_head(rec, weights, g):
        raise RefusedError(
            f"cam needs a net that ends in global average pooling and one linear layer after '{rec.layer}'; "
            "use grad_cam, which equals cam where that holds."
        )
    return rectified((weights * a).sum(1), relu)


def _is_linear_head(rec: Recording, weights: Tensor, g: Tensor) -> bool:
    """Check that the gradient is the same everywhere and is a row of some linear layer's weights."""
    even = torch.allclose(g, spatial_mean(g).expand_as(g), rtol=1e-4, atol=1e-9)
    if not even or rec.goal.classes is None:
        return False
    rows, classes = weights.flatten(1), rec.goal.classes[rec.rows]
    with undisturbed(rec.model.module):  # a weight may be computed as it is read, as spectral norm's is
        heads = (linear_weight(m) for m in named_layers(rec.model.module).values())
        return any(_has_rows(w, rows, classes) for w in heads if w is not None)


def _has_rows(weight: Tensor, rows: Tensor, classes: Tensor) -> bool:
    matrix = weight.detach().flatten(1).to(rows)
    matrix = torch.cat((-matrix, matrix)) if len(matrix) == 1 else matrix  # both sides of a single output
    if matrix.shape[1] != rows.shape[1] or int(classes.max()) >= len(matrix):
        return False
    return torch.allclose(matrix[classes], rows, rtol=1e-2, atol=1e-3 * float(matrix.abs().max()))


@method(family="cam", cite="Chattopadhay et al. 2018, arXiv:1710.11063, eq. 10-11, 19", reads="layer")
def grad_cam_plus_plus(rec: Recording, relu: bool = True) -> Tensor:
    """Grad-CAM with weights that count each object of the class alike.

    w_k = sum(alpha ReLU(g)) with alpha = g² / (2 g² + sum(A) g³).
    """
    a, g = rec.activation(), rec.gradient("layer")
    return _plus_plus(a, g, g**2, g**3, relu)


def _plus_plus(a: Tensor, g: Tensor, g2: Tensor, g3: Tensor, relu: bool) -> Tensor:
    below = 2 * g2 + spatial_sum(a) * g3
    alpha = torch.where(below != 0, g2 / torch.where(below != 0, below, torch.ones_like(below)), torch.zeros_like(g2))
    return rectified((spatial_sum(alpha * g.clamp(min=0)) * a).sum(1), relu)


def layer_moments(rec: Recording, samples: int, noise: float, scale: NoiseScale) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means of g, g² and g³ at the layer over noisy copies of the image."""
    sums: list[Tensor] = [torch.zeros(()).to(rec.x)] * 3
    for child, size in rec.children(noisy(rec.x, samples, noise, scale, rec.seed)):
        g = child.gradient("layer").unflatten(0, (size, -1))
        sums = [total + (g**power).sum(0) for power, total in enumerate(sums, 1)]
    return sums[0] / samples, sums[1] / samples, sums[2] / samples


@method(family="cam", cite="Omeiza et al. 2019, arXiv:1908.01224, eq. 8-10", reads="layer")
def smooth_grad_cam_plus_plus(
    rec: Recording,
    samples: Annotated[int, Range(1)] = 25,
    noise: Annotated[float, Range(0)] = 0.15,
    scale: NoiseScale = "relative",
    relu: bool = True,
) -> Tensor:
    """Grad-CAM++ with the powers of the gradient averaged over noisy copies of the image."""
    g, g2, g3 = rec.memo(layer_moments, samples=samples, noise=noise, scale=scale)
    return _plus_plus(rec.activation(), g, g2, g3, relu)


@method(family="cam", cite="Fu et al. 2020, arXiv:2008.02312, eq. 7-8", reads="layer")
def xgrad_cam(rec: Recording, relu: bool = True) -> Tensor:
    """Grad-CAM with each position's gradient weighted by its share of the activation: w_k = sum(A g) / sum(A)."""
    a, g = rec.activation(), rec.gradient("layer")
    mass = spatial_sum(a)
    weights = torch.where(mass != 0, spatial_sum(a * g) / torch.where(mass != 0, mass, torch.ones_like(mass)), 0 * mass)
    return rectified((weights * a).sum(1), relu)


@method(family="cam", cite="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943, eq. 5-7", reads="layer")
def layer_cam(rec: Recording, relu: bool = True) -> Tensor:
    """Activations weighted position by position with their positive gradient: ReLU(sum_k ReLU(g_k) A_k)."""
    return rectified((rec.gradient("layer").clamp(min=0) * rec.activation()).sum(1), relu)


@method(family="cam", cite="Draelos & Carin 2020, arXiv:2011.08891, eq. 4", reads="layer")
def hires_cam(rec: Recording, relu: bool = True) -> Tensor:
    """Gradient times activation, summed over channels: sum_k g_k A_k, exact for nets that end in one linear layer."""
    return rectified((rec.gradient("layer") * rec.activation()).sum(1), relu)


@method(
    family="cam",
    cite="the pytorch-grad-cam library (Gildenblat et al. 2021), element-wise Grad-CAM",
    reads="layer",
)
def elementwise_grad_cam(rec: Recording) -> Tensor:
    """Gradient times activation, with each element's negative part cut off before the sum: sum_k ReLU(g_k A_k)."""
    return (rec.gradient("layer") * rec.activation()).clamp(min=0).sum(1)


@method(family="cam", cite="Fuad et al. 2020, hal-02963298 (FEM), sec. III", reads="layer")
def fem(rec: Recording, deviations: Annotated[float, Range(0)] = 2.0) -> Tensor:
    """Where channels are unusually strong, each channel counted by its mean: sum_k mean(A_k) [A_k > mean + k std].

    No class enters. ``deviations`` is the k of the rule. It is meant for layers that end in a ReLU: elsewhere means,
    and with them the map, may be negative.
    """
    a = rec.activation()
    mean = spatial_mean(a)
    spread = spatial_mean((a - mean).square()).sqrt()
    return ((a > mean + deviations * spread) * mean).sum(1)


@method(
    family="cam",
    cite="Zeiler & Fergus 2014, arXiv:1311.2901, sec. 3 (feature maps as they are)",
    reads="layer",
    reduction="mean",
)
def activations(rec: Recording) -> Tensor:
    """The layer's channels as they are, (C, *S), drawn as a grid; no class enters."""
    return rec.activation()
