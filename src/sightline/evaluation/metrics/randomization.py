"""Randomisation: does the map change when the model's weights, or the class, are others?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.evaluation.case import Case
from sightline.evaluation.metrics.agreement import spearman, ssim
from sightline.evaluation.metrics.randomized import randomized, weight_layers
from sightline.evaluation.registry import metric
from sightline.goals import class_scores
from sightline.models.model import Model
from sightline.points import noisy
from sightline.recording import Recording
from sightline.schema import Range
from sightline.targets import PerImage

__all__ = ["alike", "other_classes"]

Count = Annotated[int, Range(1)]
Level = Annotated[float, Range(0)]
Order = Literal["cascading", "independent"]
Similarity = Literal["spearman_abs", "spearman", "ssim"]

_BINS = 100


def alike(a: Tensor, b: Tensor, similarity: Similarity) -> Tensor:
    """Return how alike two maps (N, *S) are: (N,), at most 1.

    The same map has similarity 1, even a constant one, which has no correlation; else NaN where one is constant.
    """
    same = (a == b).flatten(1).all(1).cpu()
    return torch.where(same, 1.0, _SIMILARITIES[similarity](a.cpu(), b.cpu()).double())


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim != 3 or min(a.shape[1:]) < 7:
        raise RefusedError(
            f"maps of {'x'.join(map(str, a.shape[1:]))} came, and SSIM compares windows of 7x7 pixels; set "
            "similarity=spearman."
        )
    varies = (a.flatten(1).std(1) > 0) & (b.flatten(1).std(1) > 0)
    return torch.where(varies, ssim(a, b), torch.nan)


_SIMILARITIES: dict[Similarity, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman_abs": lambda a, b: spearman(a.abs().flatten(1), b.abs().flatten(1)),
    "spearman": lambda a, b: spearman(a.flatten(1), b.flatten(1)),
    "ssim": _ssim,
}


def _checkpoints(case: Case, order: Order, count: int) -> Iterator[list[str]]:
    """Yield the layers to shuffle: groups of equal count from the output to the input, alone or with those above."""
    names = weight_layers(case.model, case.rec.x)
    count = min(count, len(names))
    ends = [round(len(names) * i / count) for i in range(count + 1)]
    for start, end in pairwise(ends):
        yield names[0 if order == "cascading" else start : end]


def _mean(values: list[Tensor]) -> Tensor:
    """Return the mean (N,) of the values that are defined, NaN where none is."""
    return torch.stack(values).nanmean(0)


@metric(
    family="randomization",
    better="lower",
    cite="Adebayo et al. 2018, arXiv:1810.03292 (MPRT; weights shuffled within each filter)",
    needs="method",
)
def parameter_randomization(
    case: Case, order: Order = "cascading", layers: Count = 3, similarity: Similarity = "spearman_abs", draws: Count = 1
) -> Tensor:
    """How alike the map stays when the model's weights are shuffled, layer by layer from the output: low is good.

    The mean similarity over ``layers`` checkpoints and ``draws`` of the weights; the map of the untouched model, whose
    similarity is 1, is none of them. "cascading" shuffles the first 1/layers of the weight layers from the output,
    then as many more, at last all; "independent" each such group alone; layers=1 all at once. See `randomized` for
    how. Each checkpoint is one more explanation. 1 is the same map. Random maps pass, and activations keep some
    of the image's edges whatever the weights: this tells maps that ignore the model, and ranks no others. Undefined
    where a map is constant, of which the shuffled model's are left out of the mean.
    """
    found = []
    for draw in range(draws):
        for chosen in _checkpoints(case, order, layers):
            other = randomized(case.model, case.seed + draw, chosen)
            found.append(alike(case.maps, case.explained(model=other), similarity))
    return _mean(found)


@metric(
    family="randomization",
    better="higher",
    cite="Hedström et al. 2023, arXiv:2401.06465 (eMPRT)",
    needs="method",
)
def efficient_randomization(case: Case) -> Tensor:
    """How much the map's entropy rises, as a share of it, when all of the model's weights are shuffled: high is good.

    The entropy of the values' histogram of 100 bins from the map's smallest to its largest. It does not see where
    the values lie. Undefined for a map of entropy 0, as a constant one is.
    """
    before, after = _entropy(case.maps), _entropy(case.explained(model=randomized(case.model, case.seed)))
    return torch.where(before > 0, (after - before) / before.clamp(min=1e-300), torch.nan)


def _entropy(maps: Tensor) -> Tensor:
    """Return the entropy (N,) of each map's histogram, in nats."""
    flat = maps.flatten(1).double().cpu()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    spread = torch.where(high > low, high - low, 1)
    places = ((flat - low) / spread * _BINS).long().clamp(max=_BINS - 1)
    counts = torch.zeros(len(flat), _BINS, dtype=torch.float64).scatter_add(1, places, torch.ones_like(flat))
    found: Tensor = torch.special.entr(counts / flat.shape[1]).sum(1)
    return found


@metric(
    family="randomization",
    better="lower",
    cite="Hedström et al. 2023, arXiv:2401.06465 (sMPRT)",
    needs="method",
)
def smooth_randomization(
    case: Case,
    order: Order = "cascading",
    layers: Count = 1,
    similarity: Similarity = "spearman_abs",
    samples: Count = 4,
    noise: Level = 0.1,
) -> Tensor:
    """How alike maps averaged over noise stay when the weights are shuffled, so that pixel noise does not pass: low.

    As `parameter_randomization`, with each map the mean over ``samples`` copies of the image with Gaussian noise of
    ``noise`` of its range. The paper takes 50 samples; here 4 by default, for each is one more explanation of each
    checkpoint.
    """
    points = list(noisy(case.rec.x, samples, noise, "relative", case.seed))

    def averaged(model: Model | None) -> Tensor:
        return torch.stack([case.explained(model=model, x=x) for x in points]).mean(0)

    before = averaged(None)
    chosen = _checkpoints(case, order, layers)
    return _mean([alike(before, averaged(randomized(case.model, case.seed, c)), similarity) for c in chosen])


@metric(
    family="randomization",
    better="lower",
    cite="Sixt et al. 2020, arXiv:1912.09818 (random logit; here the most probable other class)",
    needs="method",
)
def random_logit(case: Case, similarity: Similarity = "spearman") -> Tensor:
    """How alike the map of another class is, the most probable but for the explained one: low is good.

    1 is the same map for both classes. SSIM is that of the two-dimensional maps. One more explanation. Undefined
    where a map is constant but not the same.
    """
    return alike(case.maps, case.explained(target=PerImage(other_classes(case.rec))), similarity)


def other_classes(rec: Recording) -> tuple[int, ...]:
    """Return for each image the most probable class but for its target; RefusedError where the target is no class."""
    classes, scores = rec.goal.classes, class_scores(rec.shared.forward, "logit").detach().clone()
    if classes is None:
        raise RefusedError(f"'{rec.goal.names[0].label}' is no class, so there is no other class to compare with.")
    if rec.shared.forward.logits.shape[1] < 2:
        raise RefusedError(
            f"{rec.model.name} has one output, whose two sides share one map, so there is no other class to compare "
            "with."
        )
    scores.scatter_(1, classes.unsqueeze(1), -torch.inf)
    return tuple(scores.argmax(1).tolist())
