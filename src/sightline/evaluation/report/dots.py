"""Dot plots: each method's mean with its standard error, the best first, beside the best control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from sightline.evaluation.registry import Metric
from sightline.evaluation.report.scales import Scale, scale_of
from sightline.evaluation.report.verdicts import Outcome, Test, Verdict, best_control, sign_of
from sightline.evaluation.results import Evaluation
from sightline.evaluation.stats import Summary

__all__ = ["Dot", "DotPlot", "colours", "dot_plots"]

COLOURS = 10


@dataclass(frozen=True)
class Dot:
    """One row: a method's mean and where it, and its standard error's ends, lie on the scale (0 to 1)."""

    method: str
    summary: Summary
    control: bool
    colour: int
    at: float | None
    low: float
    high: float
    test: Test | None

    @property
    def outcome(self) -> Outcome | None:
        """How its comparison with the controls ends; None for controls, and where no direction is good."""
        return self.test.outcome if self.test else None


@dataclass(frozen=True)
class DotPlot:
    """One metric's rows, its scale, and the best control with the ends of its standard error."""

    metric: Metric
    dots: Sequence[Dot]
    scale: Scale
    best: Dot | None

    @property
    def digits(self) -> int:
        """The decimals of its numbers: those of the scale, or more where the errors are small beside it."""
        errors = [d.summary.error for d in self.dots if d.summary.error > 0]
        needed = -math.floor(math.log10(median(errors))) if errors else 0
        return max(self.scale.digits, min(needed, self.scale.digits + 2))


def colours(found: Evaluation) -> dict[str, int]:
    """Number the methods' colours, the same in every chart."""
    return {name: number % COLOURS for number, name in enumerate(m for m in found.methods if m not in found.controls)}


def dot_plots(found: Evaluation, judged: Sequence[Verdict]) -> list[DotPlot]:
    """Return a plot for each metric."""
    tests = {(v.method, t.metric.name): t for v in judged for t in v.tests}
    return [_plot(found, m, tests) for m in found.metrics]


def _plot(found: Evaluation, metric: Metric, tests: Mapping[tuple[str, str], Test]) -> DotPlot:
    means, numbered, best = found.summary(metric.name), colours(found), best_control(found, metric)
    scale = scale_of((v for s in means.values() for v in (s.mean, s.mean - s.error, s.mean + s.error)), most_ticks=5)
    dots = [
        Dot(name, s, name in found.controls, numbered.get(name, 0), *_places(s, scale), tests.get((name, metric.name)))
        for name, s in means.items()
    ]
    dots.sort(key=lambda d: (d.at is None, -(sign_of(metric) or 1) * d.summary.mean if d.at is not None else 0.0))
    return DotPlot(metric, dots, scale, next((d for d in dots if d.method == best), None))


def _places(summary: Summary, scale: Scale) -> tuple[float | None, float, float]:
    if math.isnan(summary.mean):
        return None, 0.0, 0.0
    error = 0.0 if math.isnan(summary.error) else summary.error
    return scale.at(summary.mean), scale.at(summary.mean - error), scale.at(summary.mean + error)
