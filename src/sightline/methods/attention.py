"""Methods for vision transformers that read attention, whoever wrote the model."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.attention import Attention, find_attention, gradients_kept
from sightline.backward import gradients_of
from sightline.errors import RefusedError
from sightline.methods.registry import Range, method
from sightline.models.layouts import find_layout, to_spatial
from sightline.models.session import undisturbed
from sightline.recording import Recording

__all__ = ["attention", "attention_gradient", "attention_rollout", "gradient_rollout"]

Heads = Literal["mean", "max", "min"]
Share = Annotated[float, Range(0, 1)]


def attentions(rec: Recording) -> list[Attention]:
    """Return every attention over all tokens, in order; RefusedError where there is none."""
    return find_attention(rec.score().grad_fn, len(rec.rows))


def attention_gradients(rec: Recording) -> list[Tensor]:
    """Return d score / d weights (N, heads, T, T) of every attention, in order."""
    found = rec.memo(attentions)
    with undisturbed(rec.model.module), torch.enable_grad(), gradients_kept(found) as entered:
        gradients_of(rec.score(), [rec.shared.forward.x])
    return [a.gradient(entered[a.node]) for a in found]


def _fused(weights: Tensor, heads: Heads) -> Tensor:
    if heads == "mean":
        return weights.mean(1)
    return weights.amax(1) if heads == "max" else weights.amin(1)


def _to_image(rec: Recording, flow: Tensor) -> Tensor:
    """Bring token-to-token weights (N, T, T) to the image: the class token's row, or the mean of all where none is."""
    layout = find_layout((len(flow), flow.shape[-1], 1), tuple(rec.x.shape[2:]))
    if layout is None or layout.kind != "tokens":
        raise RefusedError(
            f"attention over {flow.shape[-1]} tokens, which is no grid of an input of {tuple(rec.x.shape[2:])}; use "
            "grad_cam."
        )
    row = flow[:, 0] if layout.prefix else flow.mean(1)
    found = to_spatial(row.unsqueeze(2), layout).squeeze(1)
    return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found


@method(
    family="attention",
    cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 1; Dosovitskiy et al. 2021, arXiv:2010.11929, app. D",
    reads="input",
    at="layer",
    style="sequential",
)
def attention(rec: Recording, block: int = -1, heads: Heads = "mean", head: Annotated[int, Range(-1)] = -1) -> Tensor:
    """What the class token attends to in one block: its row of softmax(q k^T / sqrt d); no class enters.

    ``block`` counts from 0, or from the end below 0. ``head`` takes one head, -1 fuses them by ``heads``.
    """
    found = rec.memo(attentions)
    if not -len(found) <= block < len(found):
        raise RefusedError(f"attention: block {block}; this model has {len(found)}, numbered from 0.")
    weights = found[block].weights
    if head >= weights.shape[1]:
        raise RefusedError(f"attention: head {head}; this block has {weights.shape[1]}, numbered from 0.")
    return _to_image(rec, _fused(weights, heads) if head < 0 else weights[:, head])


@method(
    family="attention",
    cite="Abnar & Zuidema 2020, arXiv:2005.00928, sec. 3",
    reads="input",
    at="layer",
    style="sequential",
)
def attention_rollout(rec: Recording, heads: Heads = "mean", discard: Share = 0.0) -> Tensor:
    """Attention multiplied through all blocks, half of each step kept where it is for the residual; no class enters.

    ``discard`` sets the smallest share of each block's weights to 0, the class token's own kept.
    """
    flow = None
    for one in rec.memo(attentions):
        fused = _discarded(_fused(one.weights, heads), discard)
        step = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1]).to(fused)
        step = step / step.sum(-1, keepdim=True)
        flow = step if flow is None else step @ flow
    return _to_image(rec, torch.as_tensor(flow))


def _discarded(fused: Tensor, share: float) -> Tensor:
    if not share:
        return fused
    flat = fused.flatten(1)
    smallest = flat.topk(int(share * flat.shape[1]), dim=1, largest=False).indices
    kept = flat.scatter(1, smallest, 0).reshape(fused.shape)
    kept[:, :, 0] = fused[:, :, 0]
    return kept


@method(
    family="attention",
    cite="Chefer et al. 2021, arXiv:2103.15679, eq. 5-6",
    reads="input",
    at="layer",
    style="sequential",
)
def gradient_rollout(rec: Recording) -> Tensor:
    """Attention weighted by the class's gradient and added up through the blocks: R <- R + mean_h((dA * A)+) R."""
    pairs = zip(rec.memo(attentions), rec.memo(attention_gradients), strict=True)
    first = rec.memo(attentions)[0].weights
    flow = torch.eye(first.shape[-1]).to(first).expand(len(first), -1, -1)
    for one, gradient in pairs:
        flow = flow + (gradient * one.weights).clamp(min=0).mean(1) @ flow
    return _to_image(rec, flow - torch.eye(flow.shape[-1]).to(flow))


@method(
    family="attention",
    cite="Barkan et al. 2021, arXiv:2204.11073 (Grad-SAM), eq. 2-3",
    reads="input",
    at="layer",
    style="sequential",
)
def attention_gradient(rec: Recording) -> Tensor:
    """Attention times the class's positive gradient, averaged over heads and blocks."""
    pairs = zip(rec.memo(attentions), rec.memo(attention_gradients), strict=True)
    return _to_image(rec, torch.stack([(a.weights * g.clamp(min=0)).mean(1) for a, g in pairs]).mean(0))
