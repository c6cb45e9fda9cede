"""LeGrad: how sensitive each block's own class score is to that block's attention."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sightline.attention import Attention, find_attention, gradients_kept
from sightline.errors import ModelError, RefusedError
from sightline.forward import Forward, run_forward
from sightline.graph import sound_batch_norms
from sightline.methods.attention import to_image
from sightline.methods.registry import Range, method
from sightline.models.blocks import trace_blocks
from sightline.models.session import undisturbed
from sightline.recording import Recording

__all__ = ["legrad"]


@method(
    family="attention",
    cite="Bousselham et al. 2024, arXiv:2404.03214 (LeGrad), sec. 3",
    reads="input",
    at="layer",
    style="sequential",
)
def legrad(rec: Recording, last: Annotated[int, Range(0)] = 0) -> Tensor:
    """Each block's positive gradients of attention, where its own tokens are scored by the model's end, averaged.

    Block l's tokens take the place of the last block's, which gives s_l; then mean over heads and queries of
    ReLU(d s_l / d A_l). ``last`` averages only so many of the last blocks, 0 all.
    """
    blocks = _blocks(rec)
    forward = _tapped(rec, blocks)
    found = find_attention(forward.logits.grad_fn, len(rec.rows), tuple(rec.x.shape[2:]))
    entering = _gradients_of_ends(rec, forward, blocks)
    if last > len(blocks):
        rec.note(f"last={last}: the model has {len(blocks)} blocks")
    first = len(blocks) - min(last or len(blocks), len(blocks))
    total = torch.zeros((), device=rec.x.device)
    for i in range(first, len(blocks)):
        below = forward.taps[blocks[i - 1]] if i else forward.x
        total = total + _sensitivity(rec, found[i], forward.taps[blocks[i]], entering[i], below)
    return to_image(rec, found[0], total / (len(blocks) - first))


def _blocks(rec: Recording) -> list[str]:
    """Name the module calls that give each block's tokens (N, T, D)."""
    trace = trace_blocks(rec.model.module, rec.x)
    found = find_attention(trace.root, 1, tuple(rec.x.shape[2:]))
    names = None if found[0].grid is not None else trace.around([a.node for a in found], found[0].tokens)
    if names is None:
        raise RefusedError(
            "legrad scores each block's tokens by the model's own end, which needs blocks that are modules of their "
            "own and give all tokens in one width; use attention_gradient or gradient_rollout."
        )
    return names


def _tapped(rec: Recording, blocks: list[str]) -> Forward:
    rec.shared.passes[0] += 2
    return run_forward(rec.model.module, rec.x, layers=blocks, precision=rec.shared.options.precision)


def _gradients_of_ends(rec: Recording, forward: Forward, blocks: list[str]) -> tuple[Tensor, ...]:
    """Return, for each block, the gradient at its tokens of the score that they get in the last block's place."""
    tokens = torch.cat([forward.taps[name].detach() for name in blocks]).requires_grad_(True)
    alone = len(rec.x) == 1  # one row would fit any number of others
    copies = (3 if len(blocks) == 2 else 2) if alone else 1
    try:
        ends = run_forward(
            rec.model.module,
            rec.x.repeat(copies, *[1] * (rec.x.ndim - 1)),
            layers=rec.goal.layers,
            from_input=False,
            precision=rec.shared.options.precision,
            replaced={blocks[-1]: tokens},
        )
        scores = rec.goal.score(ends, rec.rows.repeat(len(blocks)))
    except (ModelError, RuntimeError) as error:
        raise _passed_by(blocks[-1]) from error
    own = scores.detach().unflatten(0, (len(blocks), -1))[-1]
    if not scores.requires_grad or not torch.allclose(own, rec.scores, rtol=1e-2, atol=1e-3):
        raise _passed_by(blocks[-1])
    with undisturbed(rec.model.module), torch.enable_grad():
        (gradient,) = torch.autograd.grad(scores.sum(), [tokens])
    return gradient.chunk(len(blocks))


def _passed_by(block: str) -> RefusedError:
    return RefusedError(
        f"legrad: the tokens after '{block}' alone do not decide the scores, so those of other blocks cannot take "
        "their place; use attention_gradient or gradient_rollout."
    )


def _sensitivity(rec: Recording, one: Attention, tokens: Tensor, entering: Tensor, below: Tensor) -> Tensor:
    """Return the mean over heads and queries of the positive gradients at one block's attention: (N, T)."""
    sound = sound_batch_norms(tokens.grad_fn, len(tokens))
    with undisturbed(rec.model.module), torch.enable_grad(), sound, gradients_kept([one]) as kept:
        torch.autograd.grad(tokens, [below], entering, retain_graph=True)
    return one.gradient(kept[one.node]).clamp(min=0).mean((1, 2))
