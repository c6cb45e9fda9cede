"""Anchors: a few segments that hold the target in place, whatever else of the image is covered."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.goals import class_scores
from sightline.masks import Segments, segments_of
from sightline.methods.perturbation import Fill, covering
from sightline.methods.registry import Range, method
from sightline.recording import Recording
from sightline.searches import Search, side_by_side

__all__ = ["anchors", "kl_bounds"]

Count = Annotated[int, Range(1)]
Chance = Annotated[float, Range(0.01, 0.999)]

_FIRST, _MORE = 60, 10  # draws of an anchor before it grows, and of each that is looked at again
_TOLERANCE = 0.15  # between the best candidate and the next one
_SHARE = 0.25  # of the samples left that may go into telling one step's candidates apart


@method(
    family="perturbation",
    cite="Ribeiro et al. 2018, Anchors: high-precision model-agnostic explanations (AAAI), algorithm 1",
    reads="scores",
    style="sequential",
)
def anchors(
    rec: Recording,
    segments: Segments = "slic",
    count: Count = 30,
    tau: Chance = 0.95,
    confidence: Chance = 0.95,
    samples: Count = 1000,
    fill: Fill = "mean",
) -> Tensor:
    """The fewest segments found that keep the target's rank in at least ``tau`` of the images that keep them.

    The map is 1 on them and 0 elsewhere; the other segments are covered with probability 1/2. Grown one by one, the
    best by KL-LUCB, until the precision's lower bound at ``confidence`` reaches ``tau`` or ``samples`` forward passes
    are done. The result's notes give precision and coverage. To keep its rank is, for the predicted class, to stay it.
    """
    if rec.goal.classes is None or not torch.allclose(rec.scores, _own_scores(rec), rtol=1e-3, atol=1e-5):
        raise RefusedError(
            f"anchors asks whether a class keeps its rank, and the target '{rec.goal.names[0].label}' is not one "
            "class; give a class, or use kernel_shap or lime."
        )
    labels, cover = segments_of(segments, count, rec.x), covering(rec, fill)
    searches = [_Growth(numbers.cpu(), tau, confidence, samples, rec.seed).search() for numbers in labels]
    kept = torch.ones(rec.x.shape[2:], device=rec.x.device)
    found = side_by_side(searches, lambda keeps: _held(rec, map(cover, keeps)), kept)
    rec.note([rule.said(tau, confidence, samples) for rule in found])
    return torch.stack([rule.chosen.to(labels.device)[n] for rule, n in zip(found, labels, strict=True)]).to(rec.x)


def _own_scores(rec: Recording) -> Tensor:
    classes = rec.goal.classes
    assert classes is not None  # noqa: S101 - for the type checker: this is asked before
    scores = class_scores(rec.shared.forward, rec.shared.options.output).detach()
    return scores.gather(1, classes[rec.rows].unsqueeze(1)).squeeze(1)


def _held(rec: Recording, points: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield whether the target ranks no lower than in the images themselves: (N,) for each point."""
    before = _rank(rec)
    for child, size in rec.children(points, grad=False):
        yield from (_rank(child) <= before.repeat(size)).double().unflatten(0, (size, -1)).unbind(0)


def _rank(rec: Recording) -> Tensor:
    classes = rec.goal.classes
    assert classes is not None  # noqa: S101 - for the type checker: this is asked before
    scores = class_scores(rec.shared.forward, "logit").detach()
    return (scores > scores.gather(1, classes[rec.rows].unsqueeze(1))).sum(1)


@dataclass(eq=False)
class _Rule:
    """A candidate: which segments it keeps (M,), what was drawn (n, M), and whether the target held (n,)."""

    chosen: Tensor
    kept: Tensor
    held: Tensor
    sure: bool = False

    @staticmethod
    def of(chosen: Tensor) -> _Rule:
        """Return a rule of which nothing was drawn."""
        return _Rule(chosen, chosen.new_zeros((0, len(chosen))), torch.zeros(0, dtype=torch.float64))

    @property
    def size(self) -> int:
        return int(self.chosen.sum())

    @property
    def tried(self) -> int:
        return len(self.held)

    @property
    def precision(self) -> float:
        return float(self.held.sum()) / max(1, self.tried)

    def bounds(self, level: float) -> tuple[float, float]:
        return kl_bounds(self.precision, self.tried, level)

    def extended(self) -> list[_Rule]:
        """Return the rules with one segment more; what was drawn and happens to keep it is drawn of them too."""
        found = []
        for i in (~self.chosen).nonzero().flatten():
            also = self.kept[:, i]
            found.append(_Rule(self.chosen.index_fill(0, i, True), self.kept[also], self.held[also]))
        return found

    def said(self, tau: float, confidence: float, samples: int) -> str:
        """Say in a sentence what was found and how sure it is."""
        low, high = self.bounds(math.log(1 / (1 - confidence)))
        segments = f"{self.size} of {len(self.chosen)} segments"
        which = f"anchor: {segments if self.size else 'no segment is needed'}"
        if not self.sure:
            which = f"no anchor of precision {tau:g} was found within {samples} samples; the last candidate: {segments}"
        return (
            f"{which}, precision {self.precision:.2f} ({low:.2f} to {high:.2f} at {confidence:.0%}), "
            f"coverage {0.5**self.size:.2g}"
        )


@dataclass(eq=False)
class _Growth:
    """The search for one image's anchor."""

    labels: Tensor
    tau: float
    confidence: float
    samples: int
    seed: int

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.left = self.samples

    def search(self) -> Search[_Rule]:
        """Add segments one by one until the anchor is precise enough or nothing is left to ask."""
        rule = _Rule.of(torch.zeros(int(self.labels.max()) + 1, dtype=torch.bool))
        while True:
            rule.sure = yield from self._is_precise(rule)
            if rule.sure or bool(rule.chosen.all()) or not (yield from self._draw([rule], _FIRST)):
                return rule
            best = yield from self._best(rule.extended())
            rule = _Rule.of(best.chosen)  # drawn afresh: it was chosen for its luck too

    def _draw(self, rules: list[_Rule], each: int) -> Generator[Tensor, Tensor, bool]:
        """Try each rule so many times; say whether that could be afforded."""
        if len(rules) * each > self.left:
            return False
        self.left -= len(rules) * each
        chosen = torch.stack([rule.chosen for rule in rules]).repeat_interleave(each, 0)
        kept = chosen | (torch.rand(chosen.shape, generator=self.generator) < 0.5)
        held = yield kept[:, self.labels]
        for rule, drawn, answers in zip(rules, kept.split(each), held.split(each), strict=True):
            rule.kept, rule.held = torch.cat((rule.kept, drawn)), torch.cat((rule.held, answers))
        return True

    def _is_precise(self, rule: _Rule) -> Generator[Tensor, Tensor, bool]:
        """Try a rule until its precision is surely above or below what is wanted."""
        level = math.log(1 / (1 - self.confidence))
        while (yield from self._draw([rule], _MORE)):
            low, high = rule.bounds(level)
            if low >= self.tau or high < self.tau:
                return low >= self.tau
        return False

    def _best(self, rules: list[_Rule]) -> Generator[Tensor, Tensor, _Rule]:
        """Return the most precise of the candidates, by KL-LUCB: try the best and its strongest rival again."""
        for turn in range(1, 1 + int(_SHARE * self.left) // (2 * _MORE)):
            level = _exploration(turn, len(rules), 1 - self.confidence)
            best, *others = sorted(rules, key=lambda rule: -rule.precision)
            rival = max(others, key=lambda rule: rule.bounds(level)[1], default=best)
            if rival is best or rival.bounds(level)[1] - best.bounds(level)[0] <= _TOLERANCE:
                break
            yield from self._draw([best, rival], _MORE)
        return max(rules, key=lambda rule: rule.precision)


def _exploration(turn: int, rules: int, chance: float) -> float:
    """Return Kaufmann and Kalyanakrishnan's exploration rate (2013, theorem 1)."""
    base = math.log(405.5 * rules * turn**1.1 / chance)
    return base + math.log(base)


def kl_bounds(mean: float, tried: int, level: float) -> tuple[float, float]:
    """Return the lowest and highest p with tried · KL(mean || p) <= level, for a coin that came up ``mean`` of times.

    >>> [round(b, 3) for b in kl_bounds(1.0, 100, 3.0)]
    [0.97, 1.0]
    """
    return _edge(mean, 0.0, tried, level), _edge(mean, 1.0, tried, level)


def _edge(mean: float, end: float, tried: int, level: float) -> float:
    inside, outside = mean, end
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if tried * _divergence(mean, middle) <= level else (inside, middle)
    return inside


def _divergence(p: float, q: float) -> float:
    """Return KL(p || q) of two coins."""
    q = min(max(q, 1e-15), 1 - 1e-15)
    return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
