"""What a metric looks at: maps of one batch for one target, and the model that they can be tested with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.models.model import Model
from sightline.recording import Recording
from sightline.targets import Target

__all__ = ["Again", "Case", "Curve", "Score", "ranked"]

Score = Literal["logit", "probability"]


class Again(Protocol):
    """Explain once more: with another model, other inputs (N, C, *S), or another target. Gives maps (N, *S)."""

    def __call__(self, *, model: Model | None = None, x: Tensor | None = None, target: Target | None = None) -> Tensor:
        """Return the maps on the input's grid."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The scores (N, K) that a metric saw at the shares (K,) of positions changed."""

    shares: Tensor
    scores: Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """Maps (N, *S) on the input's grid, signed, of the target that ``views`` score as logit and as probability.

    ``truth`` (N, *S) is True on what should be marked, None where that is not known. ``again`` explains once more;
    None where the maps came from elsewhere. ``notes`` collects curves under their names for whoever keeps them.
    """

    views: Mapping[Score, Recording]
    maps: Tensor
    truth: Tensor | None = None
    again: Again | None = None
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def rec(self) -> Recording:
        """The recording for the target's logit."""
        return self.views["logit"]

    @property
    def model(self) -> Model:
        """The model that the maps explain."""
        return self.rec.model

    @property
    def seed(self) -> int:
        """The seed of everything drawn."""
        return self.rec.seed

    def view(self, score: Score) -> Recording:
        """Return the recording whose scores are the target's logit, or its probability."""
        return self.views[score]

    def explained(self, *, model: Model | None = None, x: Tensor | None = None, target: Target | None = None) -> Tensor:
        """Explain once more and return the maps (N, *S); RefusedError for maps that came from elsewhere."""
        if self.again is None:
            raise RefusedError("it explains again, which a map from elsewhere does not allow; name a method instead.")
        return self.again(model=model, x=x, target=target)

    def drawn(self, name: str, shares: Tensor, scores: Tensor) -> None:
        """Keep a curve."""
        self.curves[name] = Curve(shares, scores)


def ranked(maps: Tensor, seed: int) -> Tensor:
    """Return each position's rank (N, P), 0 for the largest value; equal values are ranked in a drawn order.

    A constant map is so a random order, and not the order in which pixels lie in memory.
    """
    flat = maps.flatten(1)
    drawn = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat.device)
    by_value = flat[:, drawn].sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(by_value)
    ranks.scatter_(1, drawn[by_value], torch.arange(flat.shape[1], device=flat.device).expand_as(by_value))
    return ranks


def scores_of(rec: Recording) -> Tensor:
    """Return the scores (N,) of the images themselves, in float64 on the CPU."""
    return rec.scores.double().cpu()


def swept_scores(rec: Recording, points: Any) -> Tensor:
    """Return the scores (N, K) at K points, in float64 on the CPU."""
    return torch.stack([s.double().cpu() for s in rec.scores_at(points)], 1)
