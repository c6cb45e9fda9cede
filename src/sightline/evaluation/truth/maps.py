"""Maps of methods over images whose truth is known, and how much of each lies where it should."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sightline.engine import explanations
from sightline.evaluation.case import ranked
from sightline.models.model import Model
from sightline.samples import Failure
from sightline.targets import PerImage, Target

__all__ = ["Maps", "inside", "maps_of", "precision"]


@dataclass(eq=False)
class Maps:
    """Each method's maps (N, H, W) on the model's input, signed; why others have none; the seconds that each took."""

    found: dict[str, np.ndarray] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def maps_of(
    model: Model,
    images: Any,
    methods: Sequence[str],
    target: Target | Sequence[Target],
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Maps:
    """Explain images (a list, or a tensor (N, C, H, W)) by each method; one that fails on any has a reason instead."""
    made = Maps()
    aim: Target = PerImage(tuple(target)) if isinstance(target, (list, tuple)) else target  # type: ignore[assignment]

    def fail(failure: Failure) -> None:
        made.refused[method] = str(failure.error)

    for method in methods:
        started = time.perf_counter()
        own = {k: v for k, v in (parameters or {}).items() if k.partition(".")[0] == method}
        made_by = explanations(model, images, method, aim, seed=seed, batch_size=16, parameters=own, on_failure=fail)
        found = [e.at_input() for _, e in made_by]
        made.seconds[method] = time.perf_counter() - started
        if method not in made.refused:
            made.found[method] = np.stack(found)
    return made


def inside(maps: np.ndarray, masks: np.ndarray, *, signed: bool = True) -> np.ndarray:
    """Return the share (N,) of each map's positive mass that lies on its mask; NaN where it has none.

    With ``signed=False`` what speaks against the target counts too.

    >>> inside(np.array([[[3.0, 1.0], [0.0, -4.0]]]), np.array([[[True, False], [False, True]]])).tolist()
    [0.75]
    """
    mass = np.maximum(maps, 0).astype(np.float64) if signed else np.abs(maps).astype(np.float64)
    total = mass.sum((1, 2))
    within = (mass * masks).sum((1, 2))
    return np.asarray(np.divide(within, total, out=np.full(len(maps), np.nan), where=total > 0))


def precision(maps: np.ndarray, masks: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the share (N,) of the k largest magnitudes that lie on the mask of k positions; ties in a drawn order.

    NaN for an empty mask.

    >>> precision(np.array([[[-3.0, 1.0], [0.0, 2.0]]]), np.array([[[True, False], [True, False]]])).tolist()
    [0.5]
    """
    flat = torch.from_numpy(np.ascontiguousarray(masks)).flatten(1)
    size = flat.sum(1)
    chosen = ranked(torch.from_numpy(np.abs(maps)), seed) < size.unsqueeze(1)
    hits = (chosen & flat).sum(1).double()
    return np.asarray(torch.where(size > 0, hits / size, torch.nan))
