"""FullGrad: the score split into what the input and what every bias of the net adds."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.heatmap import resize
from sightline.methods.registry import method
from sightline.models.layouts import find_layout, to_spatial
from sightline.propagation.intercepts import FULL_GRADIENT
from sightline.recording import Recording


@method(
    family="gradient",
    cite="Srinivas & Fleuret 2019, arXiv:1905.00780, eq. 2-3, 7",
    reads="input",
    at="scores",
    style="sequential",
)
def full_grad(rec: Recording) -> Tensor:
    """The input's and all biases' shares in the score, ψ(x · ds/dx) + Σ ψ(b · ds/dy), each layer scaled to [0, 1].

    ψ is the magnitude, rescaled, resized and summed over channels; biases of batch norms and constants count too.
    The signed shares, before ψ, add up to f(x) in any net of linear layers and activations.
    """
    found = rec.propagate(FULL_GRADIENT)
    share = rec.x * found.multiplier
    shown, total = _shown(share, rec), _per_image(share, rec)
    for gradient, intercept in found.parts:
        share = gradient * intercept.constant
        total = total + _per_image(share, rec)
        layout = find_layout(tuple(share.shape), tuple(rec.x.shape[2:]), channels_last=intercept.channels_last)
        if intercept.is_bias and layout is not None and layout.positions > 1 and len(share) == len(rec.x):
            shown = shown + _shown(to_spatial(share, layout), rec)
    rec.promise(total.unsqueeze(1), found.scores)
    return shown


def _shown(share: Tensor, rec: Recording) -> Tensor:
    """Return ψ (N, *S): magnitudes brought to [0, 1] over the whole layer, summed over channels, then resized."""
    size = _wide(share).abs().flatten(1)
    low, high = size.amin(1, keepdim=True), size.amax(1, keepdim=True)
    scaled = (size - low) / torch.where(high > low, high - low, torch.ones_like(high))
    return resize(scaled.reshape(share.shape).sum(1), rec.x.shape[2:])


def _per_image(share: Tensor, rec: Recording) -> Tensor:
    """Sum a layer's shares for each image; windows of an image, as Swin cuts them, lie one after the other."""
    if len(share) % len(rec.x):
        raise RefusedError(
            f"full_grad: a bias is added to a tensor {tuple(share.shape)} whose first dimension is not the batch of "
            f"{len(rec.x)}, so it cannot be told whose it is; explain one image at a time, or use integrated_gradients."
        )
    return _wide(share).reshape(len(rec.x), -1).sum(1)


def _wide(share: Tensor) -> Tensor:
    return share if share.dtype == torch.float64 else share.float()
