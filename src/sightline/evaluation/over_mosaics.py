"""Metrics over mosaics as a part of an evaluation: with their cost, within its time, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError
from sightline.evaluation.cost import Cost
from sightline.evaluation.measuring import counted
from sightline.evaluation.registry import Metric
from sightline.evaluation.results import Row
from sightline.evaluation.rows import refusal
from sightline.evaluation.truth.mosaic import Measured, Trial
from sightline.samples import Failure

if TYPE_CHECKING:
    from sightline.evaluation.run import _Run

__all__ = ["MOSAIC", "work_mosaics"]

MOSAIC = "mosaic:"


def work_mosaics(run: _Run, images: Any, deadline: float, on_cost: Callable[[Cost], None]) -> None:
    """Measure by the metrics over mosaics, as many of them as the time allows."""
    over = [m for m in run.task.metrics if "mosaic" in m.needs]
    trial = Trial(run.task.plan, images, _forgotten if run.task.looks_at_images else run.fail)
    if over:
        with counted(run.task.plan.model) as passed:
            trial.said()
        run.forwards += passed[0]
    for metric in over:
        try:
            _work_metric(run, metric, trial, deadline, on_cost)
        except SightlineError as error:
            run.store.skipped.append(refusal(None, metric.name, str(error)))
    if not run.task.looks_at_images:
        run.read = len(trial.said())


def _work_metric(run: _Run, metric: Metric, trial: Trial, deadline: float, on_cost: Callable[[Cost], None]) -> None:
    begin = f"{MOSAIC}{metric.name}:"
    done = {int(key.removeprefix(begin)) for key in run.store.done if key.startswith(begin)}
    found = metric.compute(replace(trial, done=done), **run.task.parameters[metric.name])
    took, cost = 0.0, None
    while time.perf_counter() + took < deadline:
        started = time.perf_counter()
        with counted(run.task.plan.model) as passed:
            tiled = next(found, None)
        if tiled is None:
            return
        run.forwards += passed[0]
        _keep(run, metric, tiled)
        took = time.perf_counter() - started
        if cost is None:
            cost = Cost(tiled.mosaic.of, passed[0], took, "mosaic")
            on_cost(cost)
    run.store.skipped.append(refusal(None, metric.name, "the budget ended before its last mosaic."))


def _forgotten(failure: Failure) -> None:
    """Say nothing: it was told when the image was measured by itself."""


def _keep(run: _Run, metric: Metric, found: Measured) -> None:
    """Keep what came of a mosaic."""
    rows = [
        Row(place, "", label, method, metric.versioned, float(value))
        for method, values in found.values.items()
        for (place, label), value in zip(found.places, values, strict=True)
    ]
    refused = [refusal(method, metric.name, why) for method, why in found.refused.items()]
    run.store.add([f"{MOSAIC}{metric.name}:{found.mosaic.number}"], {"rows": rows}, refused)
