"""What an evaluation found, in sentences: of the model first, then of methods that hardly depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sightline.evaluation.results import Row
from sightline.evaluation.shortcuts import CellRow, shortcut_sentence
from sightline.methods import METHODS

__all__ = ["findings_of"]

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
