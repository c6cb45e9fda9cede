"""A CAM whose channel weights are optimised, so that the image seen through it scores highest."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.masks import SMOOTH
from sightline.methods.perturbation import covered, fill_of
from sightline.methods.registry import Range, method
from sightline.points import Baseline
from sightline.recording import Recording

__all__ = ["opti_cam"]


@method(
    family="cam", cite="Zhang et al. 2024, arXiv:2301.07002 (Opti-CAM), sec. 3", reads=("layer", "input"), at="layer"
)
def opti_cam(
    rec: Recording,
    steps: Annotated[int, Range(1)] = 100,
    rate: Annotated[float, Range(0)] = 0.1,
    fill: Baseline = "zero",
) -> Tensor:
    """The mix of channels through which the image scores highest: argmax_u f(x * n(sum_k softmax(u)_k ReLU(A_k))).

    n enlarges and brings to 0 to 1. Adam climbs for ``steps`` passes forward and backward at ``rate``. Such a mask may
    raise the score above the image's own, and then shows what the model can be made to see rather than what it saw.
    """
    a, base = rec.activation().clamp(min=0), fill_of(rec, fill)
    u = torch.zeros(a.shape[:2], dtype=a.dtype, device=a.device, requires_grad=True)
    climber = torch.optim.Adam([u], lr=rate, maximize=True)
    for _ in range(steps):
        with torch.enable_grad():
            mask = _unit(_enlarged(_mixed(u, a), rec.x.shape[2:]))
        (gradient,) = rec.gradients_at([covered(rec.x, base, mask.detach())])
        (u.grad,) = torch.autograd.grad(mask, [u], (gradient * (rec.x - base)).sum(1).to(mask))
        climber.step()
    return _unit(_mixed(u.detach(), a))


def _mixed(u: Tensor, a: Tensor) -> Tensor:
    shares = torch.softmax(u, 1)
    return (shares.reshape(*shares.shape, *[1] * (a.ndim - 2)) * a).sum(1)


def _enlarged(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps.unsqueeze(1), size=size, mode=SMOOTH[len(size)], align_corners=False).squeeze(1)


def _unit(maps: Tensor) -> Tensor:
    """Bring each map (N, *S) to 0 to 1."""
    flat = maps.flatten(1)
    low, high = (v.reshape(-1, *[1] * (maps.ndim - 1)) for v in (flat.amin(1), flat.amax(1)))
    return (maps - low) / (high - low).clamp(min=1e-12)
