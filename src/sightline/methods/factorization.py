"""Concepts in a layer: its activations as a product of few maps and few directions, both non-negative."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.methods.registry import Range, method
from sightline.recording import Recording

__all__ = ["deep_feature_factorization"]


@method(
    family="cam",
    cite="Collins et al. 2018, arXiv:1806.10206, sec. 3",
    reads="layer",
    reduction="mean",
)
def deep_feature_factorization(
    rec: Recording, concepts: Annotated[int, Range(1)] = 4, steps: Annotated[int, Range(1)] = 200
) -> Tensor:
    """The layer's activations factorised into non-negative concepts, A = H W: each concept's map, strongest first.

    No class enters; what is negative counts as 0. Each image is factorised by itself, in ``steps`` updates.
    """
    a = rec.activation()
    most = min(a.shape[1], a[0, 0].numel())
    if concepts > most:
        raise RefusedError(
            f"deep_feature_factorization: {concepts} concepts of '{rec.layer}', which has {a.shape[1]} channels and "
            f"{a[0, 0].numel()} positions; give concepts={most} or fewer."
        )
    maps = [_factor(image.double().clamp(min=0).flatten(1).mT, concepts, steps) for image in a]
    found: Tensor = torch.stack(maps).to(a).mT.unflatten(2, a.shape[2:])
    return found


def _factor(v: Tensor, rank: int, steps: int) -> Tensor:
    """Factor v (P, C) = h (P, rank) w (rank, C) by hierarchical least squares; return h for rows of w of norm 1."""
    h, w = _start(v, rank)
    for _ in range(steps):
        _improve(h, v @ w.mT, w @ w.mT)
        _improve(w.mT, v.mT @ h, h.mT @ h)
    scaled: Tensor = h * w.norm(dim=1)
    order = scaled.norm(dim=0).argsort(descending=True, stable=True)
    return scaled.index_select(1, order)


def _improve(factor: Tensor, target: Tensor, gram: Tensor) -> None:
    """Solve for one column of ``factor`` after the other, in place, the others fixed."""
    for k in range(gram.shape[0]):
        change = (target[:, k] - factor @ gram[:, k]) / gram[k, k].clamp(min=1e-12)
        factor[:, k] = (factor[:, k] + change).clamp(min=0)


def _start(v: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Begin with the stronger sign of each singular pair, so that nothing is drawn and no sign is arbitrary."""
    left, sizes, right = torch.linalg.svd(v, full_matrices=False)
    pairs = [_stronger(left[:, k], right[k]) for k in range(rank)]
    scales = sizes[:rank].sqrt()
    h = torch.stack([p for p, _ in pairs], 1) * scales
    w = torch.stack([q for _, q in pairs], 0) * scales.unsqueeze(1)
    low = 1e-3 * v.mean()  # what starts at 0 would stay there
    return h.clamp(min=float(low)), w.clamp(min=float(low))


def _stronger(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    plus, minus = (left.clamp(min=0), right.clamp(min=0)), ((-left).clamp(min=0), (-right).clamp(min=0))
    return max(plus, minus, key=lambda pair: float(pair[0].norm() * pair[1].norm()))
