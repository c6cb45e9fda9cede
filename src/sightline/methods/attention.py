"""Methods for vision transformers that read attention, whoever wrote the model."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from sightline.attention import Attention, find_attention, gradients_kept
from sightline.backward import gradients_of
from sightline.errors import RefusedError
from sightline.graph import find_nodes
from sightline.methods.registry import Range, method
from sightline.models.layouts import Layout, find_layout, to_spatial
from sightline.models.session import undisturbed
from sightline.recording import Recording

__all__ = ["attention", "attention_gradient", "attention_rollout", "gradient_rollout"]

Heads = Literal["mean", "max", "min"]
Share = Annotated[float, Range(0, 1)]


def attentions(rec: Recording) -> list[Attention]:
    """Return every attention, in order; RefusedError where there is none, or its windows cannot be placed."""
    return find_attention(rec.score().grad_fn, len(rec.rows), tuple(rec.x.shape[2:]))


def chained(rec: Recording) -> list[Attention]:
    """Return every attention of a model whose blocks pass tokens on by themselves, or merge neighbours, only."""
    found = rec.memo(attentions)
    if found[0].grid is not None:
        between = (found[0].node._sequence_nr(), found[-1].node._sequence_nr())
        _refuse_mixing(rec.score().grad_fn, between)
    return found


def _refuse_mixing(root: Node | None, between: tuple[int, int]) -> None:
    for node in find_nodes(root):
        if node.name() == "ConvolutionBackward0" and between[0] < node._sequence_nr() < between[1]:
            kernel = node._saved_weight.shape[2:]  # type: ignore[attr-defined]
            if kernel.numel() > 1:
                raise RefusedError(
                    "this model has convolutions between its windows, which bring tokens together as attention does "
                    "not say; use attention, which reads one block, or grad_cam."
                )


def attention_gradients(rec: Recording) -> list[Tensor]:
    """Return d score / d weights (N, heads, T, T) of every attention, in order."""
    found = rec.memo(attentions)
    with undisturbed(rec.model.module), torch.enable_grad(), gradients_kept(found) as entered:
        gradients_of(rec.score(), [rec.shared.forward.x])
    return [a.gradient(entered[a.node]) for a in found]


def fused_heads(weights: Tensor, heads: Heads) -> Tensor:
    """Bring heads of weights (R, heads, t, t) together."""
    if heads == "mean":
        return weights.mean(1)
    return weights.amax(1) if heads == "max" else weights.amin(1)


def layout_of(rec: Recording, one: Attention) -> Layout:
    """Return where on the image an attention's tokens lie."""
    if one.grid is not None:
        return Layout("tokens", one.grid)
    layout = find_layout((len(rec.rows), one.tokens, 1), tuple(rec.x.shape[2:]))
    if layout is None or layout.kind != "tokens":
        raise RefusedError(
            f"attention over {one.tokens} tokens, which is no grid of an input of {tuple(rec.x.shape[2:])}; use "
            "grad_cam."
        )
    return layout


def readers(rec: Recording, one: Attention) -> Tensor:
    """Return whose attention counts, as shares (N, T): the class token's, or everyone's alike where there is none."""
    shares = one.weights.new_zeros(len(rec.rows), one.tokens)
    if layout_of(rec, one).prefix:
        shares[:, 0] = 1
        return shares
    return shares + 1 / one.tokens


def to_image(rec: Recording, one: Attention, shares: Tensor) -> Tensor:
    """Bring shares of an attention's tokens (N, T) to the image (N, *S)."""
    found = to_spatial(shares.unsqueeze(2), layout_of(rec, one)).squeeze(1)
    return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found


def lowered(shares: Tensor, upper: Attention, lower: Attention) -> Tensor:
    """Hand shares (N, T) of merged tokens down to those that were merged, in equal parts."""
    if upper.grid == lower.grid or upper.grid is None or lower.grid is None:
        return shares
    owner = torch.zeros(1, dtype=torch.long)
    for above, below in zip(upper.grid, lower.grid, strict=True):
        step = math.ceil(below / above)
        if math.ceil(below / step) != above:
            raise RefusedError(f"tokens of {lower.grid} became {upper.grid}, which is no merging; use attention.")
        owner = (owner.unsqueeze(1) * above + torch.arange(below) // step).flatten()
    owner = owner.to(shares.device)
    return (shares / owner.bincount(minlength=upper.tokens))[:, owner]


@method(
    family="attention",
    cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 1; Dosovitskiy et al. 2021, arXiv:2010.11929, app. D",
    reads="input",
    at="layer",
    style="sequential",
)
def attention(rec: Recording, block: int = -1, heads: Heads = "mean", head: Annotated[int, Range(-1)] = -1) -> Tensor:
    """What the class token attends to in one block: its row of softmax(q k^T / sqrt d); no class enters.

    Without a class token it is the mean over all tokens; within windows, how much each is attended to in its own.
    ``block`` counts from 0, or from the end below 0. ``head`` takes one head, -1 fuses them by ``heads``.
    """
    found = rec.memo(attentions)
    if not -len(found) <= block < len(found):
        raise RefusedError(f"attention: block {block}; this model has {len(found)}, numbered from 0.")
    weights = found[block].weights
    if head >= weights.shape[1]:
        raise RefusedError(f"attention: head {head}; this block has {weights.shape[1]}, numbered from 0.")
    fused = fused_heads(weights, heads) if head < 0 else weights[:, head]
    return to_image(rec, found[block], found[block].through(readers(rec, found[block]), fused))


@method(
    family="attention",
    cite="Abnar & Zuidema 2020, arXiv:2005.00928, sec. 3",
    reads="input",
    at="layer",
    style="sequential",
)
def attention_rollout(rec: Recording, heads: Heads = "mean", discard: Share = 0.0) -> Tensor:
    """Attention multiplied through all blocks, half of each step kept where it is for the residual; no class enters.

    ``discard`` sets the smallest share of each block's weights to 0, the class token's own kept. Windows are blocks of
    one matrix over all tokens; a merged token's share goes to those that were merged in equal parts.
    """
    found = chained(rec)
    keep = bool(layout_of(rec, found[-1]).prefix)
    shares, above = readers(rec, found[-1]), found[-1]
    for one in reversed(found):
        step = residual(one, _discarded(fused_heads(one.weights, heads), discard, keep))
        shares, above = one.through(lowered(shares, above, one), step), one
    return to_image(rec, found[0], shares)


def residual(one: Attention, fused: Tensor) -> Tensor:
    """Mix weights (R, t, t) with the identity half and half, rows over what is no padding summing to 1."""
    step = (0.5 * fused + 0.5 * torch.eye(fused.shape[-1]).to(fused)) * one.inner().unsqueeze(1)
    return step / step.sum(-1, keepdim=True).clamp(min=1e-12)


def _discarded(fused: Tensor, share: float, keep_first: bool) -> Tensor:
    if not share:
        return fused
    flat = fused.flatten(1)
    smallest = flat.topk(int(share * flat.shape[1]), dim=1, largest=False).indices
    kept = flat.scatter(1, smallest, 0).reshape(fused.shape)
    if keep_first:
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
    found = chained(rec)
    own, above = readers(rec, found[-1]), found[-1]
    more = torch.zeros_like(own)  # what attention adds to the identity's shares
    for one, gradient in reversed(list(zip(found, rec.memo(attention_gradients), strict=True))):
        own, more, above = lowered(own, above, one), lowered(more, above, one), one
        more = more + one.through(own + more, (gradient * one.weights).clamp(min=0).mean(1))
    return to_image(rec, found[0], more)


@method(
    family="attention",
    cite="Barkan et al. 2021, arXiv:2204.11073 (Grad-SAM), eq. 2-3",
    reads="input",
    at="layer",
    style="sequential",
)
def attention_gradient(rec: Recording) -> Tensor:
    """Attention times the class's positive gradient, averaged over heads and blocks."""
    found = chained(rec)
    total = torch.zeros((), device=rec.x.device)
    for one, gradient in zip(found, rec.memo(attention_gradients), strict=True):
        shares = one.through(readers(rec, one), (one.weights * gradient.clamp(min=0)).mean(1))
        total = total + lowered(shares, one, found[0])
    return to_image(rec, found[0], total / len(found))
