"""CAMs from principal components: of activations, of gradient times activation, and under a kernel."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import RefusedError
from sightline.methods.cam import rectified
from sightline.methods.registry import Range, method
from sightline.recording import Recording

__all__ = ["eigen_cam", "eigen_grad_cam", "kpca_cam", "seg_eigen_cam"]

Sign = Literal["evidence", "none"]
Kernel = Literal["sigmoid", "rbf", "poly", "cosine", "linear"]

_MOST_POSITIONS = 4096  # a kernel over more takes minutes


@method(family="cam", cite="Muhammad & Yeasin 2020, arXiv:2008.00299, eq. 4-5", reads="layer")
def eigen_cam(rec: Recording, centre: bool = False, sign: Sign = "evidence", relu: bool = True) -> Tensor:
    """The activations' first principal component; it does not depend on the class."""
    return rectified(_first_component(rec.activation(), centre, sign), relu)


@method(
    family="cam",
    cite="the pytorch-grad-cam library (Gildenblat et al. 2021), Eigen-CAM of gradient x activation",
    reads="layer",
)
def eigen_grad_cam(rec: Recording, centre: bool = False, sign: Sign = "evidence", relu: bool = True) -> Tensor:
    """The first principal component of gradient times activation, which does depend on the class."""
    return rectified(_first_component(rec.gradient("layer") * rec.activation(), centre, sign), relu)


def _first_component(values: Tensor, centre: bool, sign: Sign) -> Tensor:
    """Project (N, C, *S) on its first right-singular vector over channels: (N, *S).

    An eigenvector's sign is arbitrary; "evidence" turns it so that it agrees with the plain sum over channels. Where
    that is zero, as after a layer norm, the few strong positions are made positive.
    """
    flat = values.flatten(2)
    flat = flat - flat.mean(2, keepdim=True) if centre else flat
    size = flat.abs().amax((1, 2), keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    flat = flat / size  # squares of large numbers overflow
    gram = flat @ flat.mT if flat.shape[1] <= flat.shape[2] else flat.mT @ flat
    _, vectors = torch.linalg.eigh(gram)
    first = vectors[..., -1:]
    if flat.shape[1] <= flat.shape[2]:
        component = (flat.mT @ first).squeeze(2)
    else:
        component = first.squeeze(2) * (flat @ first).norm(dim=1)
    component = (
        _turned(component, values / size.reshape(-1, *[1] * (values.ndim - 1))) if sign == "evidence" else component
    )
    shaped: Tensor = (component * size.squeeze(2)).reshape(len(values), *values.shape[2:])
    return shaped


def _turned(component: Tensor, values: Tensor) -> Tensor:
    """Turn components (N, P) so that they agree with the plain sum of ``values`` (N, C, *S) over channels."""
    total = values.flatten(2).sum(1)
    empty = total.norm(dim=1, keepdim=True) < 1e-2 * values.flatten(1).norm(dim=1, keepdim=True)  # bfloat16 too
    agreement = (component * torch.where(empty, component**2, total)).sum(1, keepdim=True)
    return torch.where(agreement < 0, -component, component)


@method(
    family="cam",
    cite="Chung & Ying 2025, doi:10.3390/app15137562 (Seg-Eigen-CAM), eq. 10-13",
    reads="layer",
)
def seg_eigen_cam(rec: Recording, relu: bool = True) -> Tensor:
    """The first principal component of |gradient| times activation, its strongest position made positive."""
    weighted = rec.gradient("layer").abs() * rec.activation()
    found = _first_component(weighted, centre=True, sign="none").flatten(1)
    found = torch.where(found.amax(1, keepdim=True) < -found.amin(1, keepdim=True), -found, found)
    return rectified(found.reshape(len(weighted), *weighted.shape[2:]), relu)


@method(family="cam", cite="Karmani et al. 2024, arXiv:2410.00267 (KPCA-CAM)", reads="layer")
def kpca_cam(
    rec: Recording,
    kernel: Kernel = "sigmoid",
    gamma: Annotated[float, Range(0)] = 0.0,
    sign: Sign = "evidence",
    relu: bool = True,
) -> Tensor:
    """The activations' first principal component under a kernel, positions being the points; no class enters.

    ``gamma`` is the kernel's coefficient, 0 one over the number of channels.
    """
    a = rec.activation()
    positions = a[0, 0].numel()
    if positions > _MOST_POSITIONS:
        raise RefusedError(
            f"kpca_cam compares all positions with each other, and '{rec.layer}' has {positions}; choose a later "
            f"layer, of at most {_MOST_POSITIONS} positions, or use eigen_cam."
        )
    points = a.double().flatten(2).mT
    points = points - points.mean(1, keepdim=True)
    similar = _centred(_kernel(points, kernel, gamma or 1 / a.shape[1]))
    values, vectors = torch.linalg.eigh(similar)
    component = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    component = _turned(component, a.double()) if sign == "evidence" else component
    return rectified(component.to(a).reshape(len(a), *a.shape[2:]), relu)


def _kernel(points: Tensor, kernel: Kernel, gamma: float) -> Tensor:
    """Compare points (N, P, C) with each other: (N, P, P)."""
    if kernel == "rbf":
        return torch.exp(-gamma * torch.cdist(points, points).square())
    if kernel == "cosine":
        unit = F.normalize(points, dim=2)
        return unit @ unit.mT
    products = points @ points.mT
    if kernel == "linear":
        return products
    return torch.tanh(gamma * products + 1) if kernel == "sigmoid" else (gamma * products + 1) ** 3


def _centred(kernel: Tensor) -> Tensor:
    rows = kernel.mean(2, keepdim=True)
    return kernel - rows - rows.mT + rows.mean(1, keepdim=True)
