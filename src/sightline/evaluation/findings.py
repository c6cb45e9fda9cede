"""What an evaluation found, in sentences: of the model first, then of methods that hardly depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sightline.evaluation.registry import Metric
from sightline.evaluation.results import Evaluation, Row
from sightline.evaluation.shortcuts import CellRow, shortcut_sentence
from sightline.methods import METHODS

__all__ = ["comparison_of", "findings_of"]

# Of the mean similarity to the map of shuffled weights, and to that of another class; as the trust card has them.
_TOO_ALIKE = {
    "parameter_randomization": (0.6, "hardly depends on the model: with its weights shuffled the maps stay"),
    "random_logit": (0.9, "hardly depends on the class: the maps of another class are"),
}


def findings_of(cells: Sequence[CellRow], rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the findings, those of the model first."""
    said = shortcut_sentence(cells)
    return (*(() if said is None else (said,)), *_alike(rows))


def _alike(rows: Iterable[Row]) -> list[str]:
    """Name the methods whose maps change too little with the model or the class; controls never do."""
    values: dict[tuple[str, str], list[float]] = {}
    for r in rows:
        if METHODS[r.method].family != "control":
            values.setdefault((r.method, r.metric.partition("@")[0]), []).append(r.value)
    found = []
    for (method, metric), seen in values.items():
        limit, words = _TOO_ALIKE.get(metric, (np.inf, ""))
        known = [v for v in seen if not np.isnan(v)]
        if known and np.mean(known) >= limit:
            found.append(f"{method} {words} {np.mean(known):.2f} alike (1 is the same map).")
    return found


def comparison_of(found: Evaluation, metric: Metric, level: float = 0.05) -> str | None:
    """Say which methods the best one by a metric is better than, image by image; None where there is nothing to say."""
    sign = {"higher": 1, "lower": -1, "neither": 0}[metric.better]
    means = {m: s.mean for m, s in found.summary(metric.name).items() if m not in found.controls and s.count > 1}
    if not metric.judges or len(means) < 2:
        return None
    best = max(means, key=lambda m: sign * means[m])
    pairs = {m: p for m, p in found.against(metric.name, best).items() if m in means and p.count}
    beaten = [m for m, p in pairs.items() if sign * p.difference < 0 and p.p < level]
    alike = [m for m in pairs if m not in beaten]
    said = [f"is better than {', '.join(beaten)} (paired, p < {level:g})"] if beaten else []
    said += [f"is not told apart from {', '.join(alike)}"] if alike else []
    return f"{metric.name}: {best} {', and '.join(said)}."
