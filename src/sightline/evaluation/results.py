"""What an evaluation found: one value for each image, method and metric, the curves, and how to read them as tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.evaluation.registry import METRICS, Metric
from sightline.evaluation.stats import Paired, Summary, compared, summarised
from sightline.methods import METHODS

if TYPE_CHECKING:
    from sightline.explanation import Explanation

__all__ = ["CurveRow", "Evaluation", "Row", "controls_of"]


@dataclass(frozen=True)
class Row:
    """One value: of one image (or cell of a mosaic), one method, one metric; NaN where it is undefined."""

    image: str
    image_hash: str
    target: str
    method: str
    metric: str
    value: float


@dataclass(frozen=True)
class CurveRow:
    """One point of a curve: the target's score after a share of the positions was changed."""

    image: str
    method: str
    metric: str
    share: float
    score: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The values of methods and controls by metrics over images, with what was skipped and how it was made.

    ``settings`` says what was asked of which model, ``cost`` what it took. ``skipped`` lists what has no value, with
    the reason: {"image", "method", "metric", "reason"}. ``shown`` are a few images' explanations for the report.
    """

    rows: Sequence[Row]
    curves: Sequence[CurveRow]
    skipped: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    cost: Mapping[str, Any]
    findings: Sequence[str] = ()
    shown: Sequence[Sequence[Explanation]] = field(default=(), repr=False)
    _compared: dict[tuple[str, str], dict[str, Paired]] = field(default_factory=dict, init=False, repr=False)

    @property
    def methods(self) -> list[str]:
        """The methods that have values, controls last."""
        found = list(dict.fromkeys(r.method for r in self.rows))
        return [m for m in found if m not in controls_of(found)] + controls_of(found)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that have values."""
        return [METRICS[name] for name in dict.fromkeys(r.metric.partition("@")[0] for r in self.rows)]

    @property
    def images(self) -> list[str]:
        """The images that were measured."""
        mosaics = {m.versioned for m in self.metrics if "mosaic" in m.needs}
        return list(dict.fromkeys(r.image for r in self.rows if r.metric not in mosaics))

    def values(self, method: str, metric: str) -> np.ndarray:
        """Return a method's values by a metric, in the order of the images that it was computed for.

        Cells of one mosaic share their pixels, so a mosaic has the mean of its cells.
        """
        rows = [r for r in self.rows if r.method == method and r.metric.partition("@")[0] == metric]
        if "mosaic" not in METRICS[metric].needs:
            return np.array([r.value for r in rows])
        cells: dict[str, list[float]] = {}
        for r in rows:
            cells.setdefault(r.image.partition(", ")[0], []).append(r.value)
        return np.array([np.mean(values) for values in cells.values()])

    def summary(self, metric: str) -> dict[str, Summary]:
        """Return each method's mean by a metric, with its standard error and how many values are undefined."""
        return {m: summarised(v) for m in self.methods if len(v := self.values(m, metric))}

    def start(self, metric: str) -> Summary | None:
        """Return the score at which a metric's curves begin, over images, or None where it keeps no curves.

        For insertion it is the score of the blurred image: what the area owes to no method.
        """
        first = {c.image: c.score for c in self.curves if c.metric == metric and c.share == 0}
        return summarised(np.array(list(first.values()))) if first else None

    def against(self, metric: str, other: str) -> dict[str, Paired]:
        """Compare each method with another, image by image: the mean difference, its standard error, and p."""
        if (metric, other) not in self._compared:  # thousands of sign flips for each pair
            self._compared[metric, other] = self._against(metric, other)
        return self._compared[metric, other]

    def _against(self, metric: str, other: str) -> dict[str, Paired]:
        theirs = self.values(other, metric)
        pairs = {m: self.values(m, metric) for m in self.methods if m != other}
        return {m: compared(v, theirs) for m, v in pairs.items() if len(v) == len(theirs) and len(v)}

    @property
    def controls(self) -> list[str]:
        """The controls among the methods."""
        return controls_of(self.methods)

    def beats_controls(self, metric: str, method: str, level: float = 0.05) -> bool:
        """Whether a method is better than every control by a metric, each by a paired test at ``level``."""
        sign = {"higher": 1, "lower": -1, "neither": 0}[METRICS[metric].better]
        if method in self.controls or not METRICS[metric].judges:
            return False
        against = [self.against(metric, c).get(method) for c in self.controls]
        counted = [p for p in against if p is not None and p.count]  # a constant map has no rank correlation
        return bool(counted) and all(sign * p.difference > 0 and p.p < level for p in counted)

    def report(self, file: str | os.PathLike[str]) -> Path:
        """Write all of it as one HTML page that loads nothing, and return the file."""
        from sightline.evaluation.report import write_report

        return write_report(self, Path(file))

    def to_dict(self) -> dict[str, Any]:
        """Return the summaries as plain JSON values; undefined numbers are null."""
        return {
            "findings": list(self.findings),
            "metrics": {m.versioned: self._metric(m) for m in self.metrics},
            "images": len(self.images),
            "skipped": [dict(s) for s in self.skipped],
            "settings": dict(self.settings),
            "cost": dict(self.cost),
        }

    def _metric(self, metric: Metric) -> dict[str, Any]:
        start = self.start(metric.name)
        best = {other: self.against(metric.name, other) for other in self.methods}
        return {
            "better": metric.better,
            "start": start.to_dict() if start else None,
            "methods": {
                name: found.to_dict() | {"against": {c: p[name].to_dict() for c, p in best.items() if name in p}}
                for name, found in self.summary(metric.name).items()
            },
        }


def controls_of(methods: Sequence[str]) -> list[str]:
    """Return those of the methods that are controls."""
    return [m for m in methods if METHODS[m].family == "control"]
