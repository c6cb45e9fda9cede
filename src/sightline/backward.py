"""One backward pass: the gradients of a score at several places, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.goals import Goal
from sightline.graph import find_nodes, sound_batch_norms

__all__ = ["gradients_of", "no_path"]


def gradients_of(score: Tensor, places: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return d sum(score) / d place for each place, None where the score does not depend on it; the graph is kept.

    Raises RefusedError for reentrant checkpointing.
    """
    try:
        with sound_batch_norms(score.grad_fn, len(score)):
            return torch.autograd.grad(score.sum(), places, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        opaque = [n.name() for n in find_nodes(score.grad_fn) if "Checkpoint" in n.name()]
        if not opaque:
            raise
        raise RefusedError(
            "the model uses reentrant checkpointing, through which torch gives no gradients of inputs and layers; "
            "switch checkpointing off (use_reentrant=False works too)."
        ) from error


def no_path(where: str, goal: Goal, *, differentiable: bool = True) -> RefusedError:
    """Return the error that says that a target does not depend on a place through anything differentiable."""
    if differentiable:
        return RefusedError(
            f"the target '{goal.names[0].label}' does not depend on {where} through anything that can be "
            "differentiated; choose another layer or target, or a method that needs only scores."
        )
    return RefusedError(
        "the model's scores do not depend on what was read through anything that can be differentiated, for it leaves "
        "torch, or detaches; choose a later layer, or a method that needs only scores (occlusion, rise, kernel_shap)."
    )
