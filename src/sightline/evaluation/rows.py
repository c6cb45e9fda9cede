"""From what was measured to the rows that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.evaluation.measuring import Measured, Task
from sightline.evaluation.results import CurveRow, Row

__all__ = ["parts_of", "refusal", "skipped_of"]


def parts_of(task: Task, found: Measured) -> dict[str, Sequence[Any]]:
    """Return what is kept of a batch, by table."""
    return {
        "rows": _rows(task, found),
        "curves": _curves(task, found),
        "cells": [row for of_image in found.cells for row in of_image],
    }


def _rows(task: Task, found: Measured) -> list[Row]:
    names = {m.name: m.versioned for m in task.metrics}
    return [
        Row(
            task.name(sample),
            sample.hash or "",
            found.explanations[method, row].target.label,
            method,
            names[metric],
            float(values[row]),
        )
        for (method, metric), values in found.values.items()
        for row, sample in enumerate(found.batch)
        if (method, row) in found.explanations
    ]


def _curves(task: Task, found: Measured) -> list[CurveRow]:
    return [
        CurveRow(task.name(sample), method, metric, float(share), float(score))
        for (method, metric), (shares, scores) in found.curves.items()
        for row, sample in enumerate(found.batch)
        if (method, row) in found.explanations
        for share, score in zip(shares, scores[row], strict=True)
    ]


def skipped_of(task: Task, found: Measured) -> list[dict[str, Any]]:
    """Return what a batch has no value for, and why."""
    blind = ",".join(m.name for m in task.metrics if "truth" in m.needs)
    refused = [refusal(method, metric or None, reason) for (method, metric), reason in found.refused.items()]
    unmarked = found.unmarked.items() if blind else ()
    return refused + [refusal(None, blind, why) | {"image": task.name(found.batch[row])} for row, why in unmarked]


def refusal(method: str | None, metric: str | None, reason: str) -> dict[str, Any]:
    """Return one entry of what was skipped, for all images."""
    return {"image": None, "method": method, "metric": metric, "reason": reason}
