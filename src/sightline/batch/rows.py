"""From decoded images to rows of ``explanations``: the one place where a batch of a run is explained."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sightline.batch.decoding import Decoded
from sightline.batch.job import Ask, Job, asks_of, plan_of
from sightline.batch.maps import stored_map
from sightline.batch.names import digest, item_digest
from sightline.engine import explain_batch
from sightline.errors import LayerError, ModelError, ParameterError, RefusedError, SightlineError
from sightline.evaluation.measuring import Task, measure_batch
from sightline.evaluation.registry import find_metrics, metric_parameters
from sightline.explanation import Explanation
from sightline.models.model import Model
from sightline.paths import why
from sightline.plan import Plan
from sightline.samples import Failure, Sample

__all__ = ["Work", "rows_of", "shape_of"]

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Work:
    """A job as one process does it: with the model open."""

    job: Job
    plan: Plan
    asks: Sequence[Ask]
    task: Task | None

    @staticmethod
    def of(job: Job, model: Model) -> Work:
        """Ready a job for a model; raises what is wrong with what was asked."""
        plan = plan_of(job, model)
        return Work(job, plan, asks_of(job, plan), _task(job, plan))


@dataclass(frozen=True, eq=False)
class _Found:
    """An explanation of one row of a batch, with what metrics say of it."""

    row: int
    explanation: Explanation
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


def shape_of(job: Job, model: Model) -> tuple[int, ...]:
    """Return the shape of a job's heatmaps in the store."""
    return (job.heatmap,) * model.input_dims


def rows_of(work: Work, images: Sequence[Decoded], wanted: Sequence[str]) -> list[Row]:
    """Explain some decoded images by the asks whose hashes are wanted: rows in the images' order.

    An image or method that fails is a row with its error; a batch that fails is halved until the culprit is alone.
    """
    asks = [ask for ask in work.asks if ask.hash in wanted]
    found: list[Row] = []
    for group in _alike(images):
        found += _group_rows(work, group, asks)
    return found


def _alike(images: Sequence[Decoded]) -> Iterator[list[Decoded]]:
    """Group neighbours that can be stacked; what could not be decoded is a group of its own."""
    group: list[Decoded] = []
    for one in images:
        if group and (one.x is None or group[0].x is None or one.x.shape != group[0].x.shape):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _group_rows(work: Work, group: Sequence[Decoded], asks: Sequence[Ask]) -> list[Row]:
    if group[0].x is None:
        return [_failed(work, one, ask, str(one.error)) for one in group for ask in asks]
    rows: dict[int, list[Row]] = {row: [] for row in range(len(group))}
    for start in range(0, len(group), work.plan.model.batch or len(group)):
        part = range(start, min(len(group), start + (work.plan.model.batch or len(group))))
        for target in dict.fromkeys(ask.target for ask in asks):
            mine = {ask.method: ask for ask in asks if ask.target == target}
            _explain(work, group, list(part), mine, rows)
    return [row for number in rows for row in rows[number]]


def _explain(
    work: Work, group: Sequence[Decoded], numbers: list[int], asks: Mapping[str, Ask], rows: dict[int, list[Row]]
) -> None:
    """Explain some images of a group for one target, and add their rows."""
    samples = [group[n].sample(work.plan.model, n) for n in numbers]
    found, failures = _tried(work, samples, asks)
    for one in found:
        rows[one.row].append(_row(work, group[one.row], asks[one.explanation.method], one))
    for method, ask in asks.items():
        for error, failed in _failed_by(method, failures):
            if len(failed) == 1:
                rows[failed[0]].append(_failed(work, group[failed[0]], ask, str(error)))
                continue
            half = len(failed) // 2  # one of them may have broken the pass for all
            _explain(work, group, failed[:half], {method: ask}, rows)
            _explain(work, group, failed[half:], {method: ask}, rows)


def _failed_by(method: str, failures: Sequence[Failure]) -> Iterator[tuple[SightlineError, list[int]]]:
    """Yield each error of a method once, with the images that it was the first for: those that failed together."""
    first: dict[int, SightlineError] = {}
    for failure in failures:
        if failure.method in (None, method):
            first.setdefault(failure.image, failure.error)
    for error in {id(error): error for error in first.values()}.values():
        yield error, [image for image, its in first.items() if its is error]


def _tried(work: Work, samples: list[Sample], asks: Mapping[str, Ask]) -> tuple[list[_Found], list[Failure]]:
    """Explain a batch for one target by the methods of some asks; what fails is returned beside what was found.

    Raises what no image could make right.
    """
    failures: list[Failure] = []
    try:
        found = _explained(work, samples, asks, failures)
    except SightlineError as error:
        if isinstance(error, LayerError) or not isinstance(error, ModelError):
            raise
        return [], _all_failed(samples, error)
    except Exception as error:  # noqa: BLE001  somebody's model raises anything
        failed = ModelError(f"explaining it fails ({type(error).__name__}: {why(error)}); try another method.")
        failed.__cause__ = error
        return [], _all_failed(samples, failed)
    _refuse_broken_device(failures)
    return found, failures


def _all_failed(samples: Sequence[Sample], error: SightlineError) -> list[Failure]:
    failures = [Failure(sample.given, None, error) for sample in samples]
    _refuse_broken_device(failures)
    return failures


def _refuse_broken_device(failures: Sequence[Failure]) -> None:
    """Raise where it was not the images: after such an error a device answers nothing more to this process."""
    for failure in failures:
        if isinstance(failure.error.__cause__, torch.AcceleratorError):
            raise ModelError(f"{failure.error} The device has to be begun with anew: go on with --resume.")


def _explained(work: Work, samples: list[Sample], asks: Mapping[str, Ask], failures: list[Failure]) -> list[_Found]:
    place = [str(target) for target in work.job.targets].index(next(iter(asks.values())).target)
    plan = replace(
        work.plan,
        methods=[m for m in work.plan.methods if m.name in asks],
        targets=[work.plan.targets[place]],
        images=len(samples),
    )
    if work.task is None:
        return [_Found(row, e, {}) for row, e in explain_batch(plan, samples, failures.append)]
    return _measured(replace(work.task, plan=plan), samples, failures)


def _measured(task: Task, samples: list[Sample], failures: list[Failure]) -> list[_Found]:
    found = measure_batch(task, samples, failures.append)
    for (method, metric), said in found.refused.items():
        if not metric:
            together = RefusedError(said)
            left = [s for row, s in enumerate(samples) if (method, row) not in found.explanations]
            failures += [Failure(s.given, method, together) for s in left]
    return [
        _Found(
            samples[row].given,
            e,
            {m.name: _number(found.values, method, m.name, row) for m in task.metrics},
            tuple(
                f"{metric} could not be measured: {said}" for (m, metric), said in found.refused.items() if m == method
            ),
        )
        for (method, row), e in found.explanations.items()
    ]


def _number(values: Mapping[tuple[str, str], torch.Tensor], method: str, metric: str, row: int) -> float:
    return float(values[method, metric][row]) if (method, metric) in values else float("nan")


def _row(work: Work, one: Decoded, ask: Ask, found: _Found) -> Row:
    e = found.explanation
    heatmap, scale = stored_map(e, shape_of(work.job, work.plan.model))
    best = e.predictions[0]
    target = e.target.index if e.target.index is not None else e.target.label
    return _about(work, one, ask) | {
        "key": digest(str(one.hash), ask.hash, str(target)),
        "layer": e.layer,
        "target": e.target.index,
        "target_label": e.target.label,
        "score": e.score,
        "prediction": best["index"],
        "prediction_label": best["label"],
        "probability": best["probability"],
        "heatmap": heatmap,
        "heatmap_scale": scale,
        "completeness": None if e.completeness is None else e.completeness.to_dict(),
        "coverage": _coverage(e),
        "metrics": [(k, v) for k, v in found.metrics.items() if np.isfinite(v)] if work.job.metrics else None,
        "notes": [*e.notes, *found.notes],
        "error": None,
        "raw": _npy(e.attribution) if work.job.raw else None,
    }


def _failed(work: Work, one: Decoded, ask: Ask, error: str) -> Row:
    # A file that holds no image is known by its name: there may be many that are empty.
    known = one.hash if one.error is None else item_digest(one.item.uri, one.item.size, one.item.stamp)
    key = digest(str(known), ask.hash, "error")
    return _about(work, one, ask) | {"key": key, "heatmap": None, "error": error}


def _about(work: Work, one: Decoded, ask: Ask) -> Row:
    height, width = one.geometry.original if one.geometry is not None else (None, None)
    return {
        "image": one.item.uri,
        "image_hash": one.hash,
        "about": one.item.about,
        "width": width,
        "height": height,
        "model": work.job.name,
        "weights_hash": work.plan.model.weights_hash,
        "method": ask.method,
        "parameters": ask.parameters,
        "asked": ask.target,
    }


def _coverage(e: Explanation) -> dict[str, Any] | None:
    if e.coverage is None:
        return None
    seen = e.coverage
    return {"changed": seen.changed, "unchanged": list(seen.unchanged.items()), "unseen": list(seen.unseen)}


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def _task(job: Job, plan: Plan) -> Task | None:
    if not job.metrics:
        return None
    metrics = find_metrics(list(job.metrics))
    others = [metric.name for metric in metrics if {"mosaic", "truth"} & set(metric.needs)]
    if others:
        raise ParameterError(
            f"metrics={', '.join(others)}: wanted metrics of images of which nothing is known; sightline "
            "evaluate takes boxes and masks, and makes mosaics."
        )
    return Task(plan, metrics, metric_parameters(metrics, job.metric_parameters), covers=False)
