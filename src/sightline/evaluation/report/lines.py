"""Curves: the mean score while positions are changed, with one standard error around it, a panel for each method."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.evaluation.registry import METRICS, Metric
from sightline.evaluation.report.dots import colours
from sightline.evaluation.report.scales import Scale, scale_of
from sightline.evaluation.report.verdicts import best_control, sign_of
from sightline.evaluation.results import Evaluation
from sightline.evaluation.stats import summarised

__all__ = ["BOTTOM", "HEIGHT", "LEFT", "RIGHT", "TOP", "WIDTH", "CurvePlot", "Line", "curve_plots", "mean_curves"]

WIDTH, HEIGHT = 232, 176
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 26
_ROOM = 18
"""What a label needs between its line and an edge of the panel."""

_NARROW = 0.2
"""Probabilities that differ less than this are not drawn from 0 to 1."""


@dataclass(frozen=True)
class Line:
    """A method's curve as the drawing commands of its line and of the band around it."""

    method: str
    colour: int
    control: bool
    line: str
    band: str
    area: float
    said: str


@dataclass(frozen=True)
class CurvePlot:
    """The curves of one metric: panels for methods, controls drawn in each, and the score that they start from."""

    name: str
    metric: Metric | None
    lines: Sequence[Line]
    best: str | None
    scale: Scale
    start: float
    start_y: float
    label_y: float
    end: float
    unit: str
    fill: str | None

    @property
    def panels(self) -> list[Line]:
        """The methods, best first."""
        return [c for c in self.lines if not c.control] or list(self.lines)

    @property
    def controls(self) -> list[Line]:
        """The controls' curves."""
        return [c for c in self.lines if c.control]


def curve_plots(found: Evaluation) -> list[CurvePlot]:
    """Return the curves of each metric that drew some."""
    return [_plot(found, name, means) for name, means in mean_curves(found).items()]


def mean_curves(found: Evaluation) -> dict[str, dict[str, np.ndarray]]:
    """Return by metric and method (K, 3): shares that were changed, mean scores over images, standard errors."""
    by_name: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in found.curves:
        by_name[row.metric][row.method][row.share].append(row.score)
    means = {name: {m: _means(p) for m, p in methods.items()} for name, methods in by_name.items()}
    drawn = {name: {m: c for m, c in curves.items() if len(c) > 1} for name, curves in means.items()}
    return {name: curves for name, curves in drawn.items() if curves}


def _plot(found: Evaluation, name: str, means: Mapping[str, np.ndarray]) -> CurvePlot:
    metric = METRICS.get(name.partition("@")[0])
    asked = found.settings.get("metrics", {}).get(metric.versioned if metric else name, {})
    everything = np.concatenate([np.concatenate((c[:, 1] - c[:, 2], c[:, 1] + c[:, 2])) for c in means.values()])
    unit = str(asked.get("score", "score"))
    scale = _scale(everything, unit)
    start, end = (float(np.mean([c[row, 1] for c in means.values()])) for row in (0, -1))
    return CurvePlot(
        name,
        metric,
        _ordered([_line(found, m, c, scale) for m, c in means.items()], metric),
        best_control(found, metric) if metric else None,
        scale,
        start,
        _y(start, scale),
        _label_y(_y(start, scale), rising=end > start),
        end,
        unit,
        None if asked.get("fill") is None else str(asked["fill"]),
    )


def _means(points: Mapping[float, list[float]]) -> np.ndarray:
    """Return (K, 3): shares, mean scores, and standard errors (0 where one image has none)."""
    rows = [(share, summarised(np.array(scores))) for share, scores in sorted(points.items())]
    kept = [(share, s.mean, 0.0 if math.isnan(s.error) else s.error) for share, s in rows if s.count]
    return np.array(kept).reshape(-1, 3)


def _scale(values: np.ndarray, unit: str) -> Scale:
    wide = np.ptp(values) > _NARROW and values.min() >= 0 and values.max() <= 1
    return scale_of([0.0, 1.0] if wide and unit == "probability" else values.tolist())


def _line(found: Evaluation, method: str, points: np.ndarray, scale: Scale) -> Line:
    shares, means, errors = points.T
    x = LEFT + shares * (WIDTH - LEFT - RIGHT)
    upper, lower = ([_y(v, scale) for v in side] for side in (means + errors, means - errors))
    band = _path([*zip(x, upper, strict=True), *reversed(list(zip(x, lower, strict=True)))]) + "Z"
    return Line(
        method,
        colours(found).get(method, 0),
        method in found.controls,
        _path(zip(x, (_y(v, scale) for v in means), strict=True)),
        band,
        float(np.trapezoid(means, shares)),
        f"{method}: from {means[0]:.2f} over {means[len(means) // 2]:.2f} half way to {means[-1]:.2f}",
    )


def _y(value: float, scale: Scale) -> float:
    return round(HEIGHT - BOTTOM - scale.at(float(value)) * (HEIGHT - TOP - BOTTOM), 1)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _label_y(line: float, *, rising: bool) -> float:
    """Return the base of the start's label: on the side that the curves leave free, where it fits."""
    below, above = line + 13, line - 5
    if rising:
        return below if line + _ROOM < HEIGHT - BOTTOM else above
    return above if line - _ROOM > TOP else below


def _ordered(lines: list[Line], metric: Metric | None) -> list[Line]:
    sign = sign_of(metric) if metric else 0
    return sorted(lines, key=lambda c: (c.control, -sign * c.area))
