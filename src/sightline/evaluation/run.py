"""Methods and controls measured over images: the cost said first, within a budget, resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sightline.errors import InputError, ParameterError
from sightline.evaluation.cost import Cost
from sightline.evaluation.measuring import Measured, Task, Truth, counted, measure_batch
from sightline.evaluation.over_mosaics import MOSAIC, refusal, work_mosaics
from sightline.evaluation.registry import METRICS, find_metrics, metric_parameters
from sightline.evaluation.results import CurveRow, Evaluation, Row, controls_of
from sightline.evaluation.store import Store
from sightline.evaluation.truth.scenes import COUNT, SOURCE, findings, scene_set
from sightline.explanation import Explanation
from sightline.methods import METHODS
from sightline.models.load import load
from sightline.models.model import Model
from sightline.plan import make_plan
from sightline.samples import Failure, Sample, batches, samples
from sightline.targets import Target

__all__ = ["CONTROLS", "DEFAULT_METHODS", "DEFAULT_METRICS", "Cost", "evaluate"]

CONTROLS = ("random", "edges", "centre", "constant")
DEFAULT_METHODS = "grad_cam,layer_cam,gradient,integrated_gradients,guided_backprop"
DEFAULT_METRICS = "single_deletion,insertion,deletion"
_SHOWN = 6


@dataclass(eq=False)
class _Run:
    """One evaluation under way."""

    task: Task
    store: Store
    fail: Callable[[Failure], None]
    step: Callable[[int], None]
    shown: list[list[Explanation]]
    forwards: int = 0
    read: int = 0
    seconds: dict[str, float] | None = None

    def measure(self, batch: Sequence[Sample]) -> None:
        """Measure a batch and keep what came of it."""
        with counted(self.task.plan.model) as passed:
            found = measure_batch(self.task, batch, self.fail)
        self.forwards += passed[0]
        self.store.add([_key(s) for s in batch], _rows(self.task, found), _curves(found), _skipped(found))
        spent = self.seconds if self.seconds is not None else {}
        self.seconds = {m: spent.get(m, 0.0) + s for m, s in found.seconds.items()}
        self._show(found)
        self.step(len(batch))

    def _show(self, found: Measured) -> None:
        for row in range(len(found.batch)):
            maps = [e for (_, r), e in found.explanations.items() if r == row]
            if maps and len(self.shown) < _SHOWN:
                self.shown.append(maps)


def evaluate(
    model: Model | nn.Module | str,
    images: Any,
    method: str | Sequence[str] = DEFAULT_METHODS,
    metric: str | Sequence[str] = DEFAULT_METRICS,
    *,
    target: Target = "top1",
    truth: Truth | None = None,
    layer: Any = None,
    seed: int = 0,
    limit: int | None = None,
    budget: float | None = None,
    batch_size: int = 8,
    out: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    on_cost: Callable[[Cost], None] = lambda cost: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Measure methods, and four controls beside them, by metrics over images.

    ``images`` are what `explain` takes, or "demo/scenes": 60 scenes, or ``limit``, whose objects are known and half of
    which carry a watermark; the findings say whether the model decides by it. ``truth`` gives for a sample the mask
    (H, W) of its object, or None. ``limit`` takes so many images, drawn by the seed; ``budget`` is in seconds, and ends
    the run after the last batch that fits. ``out`` is a directory: an interrupted run goes on there. ``parameters`` are
    those of methods, as in `explain`, and of metrics, as ``{"deletion.steps": 14}``. ``on_cost`` is told the cost,
    measured on the first image and the first mosaic, before the others are begun.

    Raises what `explain` raises; ParameterError for unknown metrics and for a budget that no image fits.

    >>> from sightline.demo.scenes import scene
    >>> found = evaluate("demo/honest", [scene(i).image for i in range(3)], "grad_cam", "single_deletion")
    >>> len(found.values("grad_cam", "single_deletion"))
    3
    """
    loaded = model if isinstance(model, Model) else load(model)
    drawn = scene_set(limit or COUNT, seed) if isinstance(images, str) and images == SOURCE else None
    if drawn is not None:
        images, truth = drawn.images, truth or drawn.objects
    task = _task(loaded, method, metric, target, truth, layer, seed, parameters or {})
    chosen = _drawn(images, limit, seed)
    settings = _settings(task, seed, len(chosen))
    failures: list[Failure] = []
    store = Store(None if out is None else Path(out), settings)
    run = _Run(task, store, _collecting(failures, on_failure), on_step, [])
    started = time.perf_counter()
    cost = _work(run, chosen, budget, batch_size, on_cost) if task.looks_at_images else None
    work_mosaics(run, chosen, math.inf if budget is None else started + budget, on_cost)
    found = _finished(run, settings, cost, time.perf_counter() - started, failures, len(chosen))
    return found if drawn is None else replace(found, findings=findings(loaded, drawn))


def _task(
    model: Model,
    method: Any,
    metric: Any,
    target: Target,
    truth: Truth | None,
    layer: Any,
    seed: int,
    given: Mapping[str, Any],
) -> Task:
    metrics = find_metrics(metric)
    blind = [m.name for m in metrics if "truth" in m.needs]
    if blind and truth is None:
        raise ParameterError(
            f"{' and '.join(blind)} compare with where the object is; give boxes or masks (--boxes FILE), or leave "
            f"{'them' if len(blind) > 1 else 'it'} out."
        )
    of_metrics = {k: v for k, v in given.items() if k.partition(".")[0] in METRICS}
    plan = make_plan(
        model,
        _with_controls(method),
        target,
        contrast=None,
        layer=layer,
        output="logit",
        precision="model",
        seed=seed,
        chunk=None,
        parameters={k: v for k, v in given.items() if k not in of_metrics},
        tick=None,
    )
    return Task(plan, metrics, metric_parameters(metrics, of_metrics), truth)


def _with_controls(method: Any) -> list[str]:
    from sightline.methods import find_methods

    named = [m.name for m in find_methods(method)]
    return [*named, *(c for c in CONTROLS if c not in named)]


def _drawn(images: Any, limit: int | None, seed: int) -> Any:
    """Return the images in a drawn order, ``limit`` of them: the first of a folder may all be of one class."""
    if limit is not None and limit < 1:
        raise ParameterError(f"limit={limit}: wanted at least 1 image.")
    listed = images if isinstance(images, (list, tuple)) or hasattr(images, "shape") else [images]
    order = np.random.default_rng(seed).permutation(len(listed))[:limit]
    return [listed[i] for i in order] if isinstance(listed, (list, tuple)) else listed[order]


def _collecting(failures: list[Failure], tell: Callable[[Failure], None] | None) -> Callable[[Failure], None]:
    def fail(failure: Failure) -> None:
        if tell is None:
            raise failure.error
        failures.append(failure)
        tell(failure)

    return fail


def _work(
    run: _Run, images: Any, budget: float | None, batch_size: int, on_cost: Callable[[Cost], None]
) -> Cost | None:
    """Measure the first image alone, say what the others will cost, and do as many as the budget allows."""
    deadline = math.inf if budget is None else time.perf_counter() + budget
    model, cost = run.task.plan.model, None
    todo = _todo(run, samples(model, images, run.fail))
    first = next(todo, None)
    if first is not None:
        started = time.perf_counter()
        run.measure([first])
        took = time.perf_counter() - started
        cost = Cost(len(images), run.forwards, took)
        if budget is not None and took > budget and len(images) > 1:
            raise ParameterError(
                f"a budget of {budget:g} s is too small: one image took {took:.1f} s ({run.forwards} forward passes); "
                "give more time, or fewer methods and metrics."
            )
        on_cost(cost)
    for batch in batches(todo, min(max(1, batch_size), model.batch or batch_size)):
        if cost is not None and time.perf_counter() + cost.seconds_each > deadline:
            break
        run.measure(batch)
    return cost


def _todo(run: _Run, found: Iterator[Sample]) -> Iterator[Sample]:
    for sample in found:
        if _key(sample) in run.store.done:
            run.step(1)
        else:
            yield sample


def _key(sample: Sample) -> str:
    return f"{sample.name or sample.number}:{sample.hash or sample.number}"


def _name(sample: Sample) -> str:
    return str(sample.name or f"image {sample.number}")


def _rows(task: Task, found: Measured) -> list[Row]:
    names = {m.name: m.versioned for m in task.metrics}
    return [
        Row(
            _name(sample),
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


def _curves(found: Measured) -> list[CurveRow]:
    return [
        CurveRow(_name(sample), method, metric, float(share), float(score))
        for (method, metric), (shares, scores) in found.curves.items()
        for row, sample in enumerate(found.batch)
        if (method, row) in found.explanations
        for share, score in zip(shares, scores[row], strict=True)
    ]


def _skipped(found: Measured) -> list[dict[str, Any]]:
    return [refusal(method, metric or None, reason) for (method, metric), reason in found.refused.items()]


def _settings(task: Task, seed: int, images: int) -> dict[str, Any]:
    plan = task.plan
    return {
        "model": plan.model.name,
        "weights": plan.model.weights,
        "weights_hash": plan.model.weights_hash,
        "preprocessing": plan.model.preprocessing.describe(),
        "target": str(plan.targets[0]),
        "methods": {m.name: {k: _plain(v) for k, v in plan.parameters[m.name].items()} for m in plan.methods},
        "layers": list(plan.layers),
        "metrics": {m.versioned: {k: _plain(v) for k, v in task.parameters[m.name].items()} for m in task.metrics},
        "seed": seed,
        "images": images,
    }


def _plain(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    return f"array {tuple(shape)}" if shape is not None else value


def _finished(
    run: _Run,
    settings: Mapping[str, Any],
    cost: Cost | None,
    seconds: float,
    failures: Sequence[Failure],
    asked: int,
) -> Evaluation:
    run.store.save_tables()
    if not run.store.rows and not run.store.skipped:
        raise InputError("none of the images could be measured; see the errors above.")
    skipped = [
        *run.store.skipped,
        *({"image": str(f.image), "method": f.method, "metric": None, "reason": str(f.error)} for f in failures),
    ]
    spent = {
        "asked": asked,
        "measured": run.read + sum(not key.startswith(MOSAIC) for key in run.store.done),
        "forward_passes": run.forwards,
        "seconds": round(seconds, 2),
        "seconds_by_method": {m: round(s, 3) for m, s in (run.seconds or {}).items()},
    }
    known = set(METHODS) & {r.method for r in run.store.rows}
    rows = sorted(run.store.rows, key=lambda r: r.method in controls_of(sorted(known)))
    return Evaluation(
        rows, run.store.curves, skipped, settings, (cost.to_dict() if cost else {}) | spent, (), run.shown
    )
