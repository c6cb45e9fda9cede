"""One batch: its images explained by every method, and each map measured by every metric."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.engine import explain_batch, goals_of, refuse_other_labels
from sightline.errors import InputError, LayerError, RefusedError, SightlineError, TargetError
from sightline.evaluation.case import Again, Case, Score
from sightline.evaluation.metrics.cells import sums
from sightline.evaluation.metrics.covering import covering_cells, grid
from sightline.evaluation.registry import Metric
from sightline.evaluation.shortcuts import CELLS, CellRow
from sightline.explanation import Explanation
from sightline.goals import resolve
from sightline.methods import Method
from sightline.models.model import Model
from sightline.plan import Plan
from sightline.recording import Recording, record
from sightline.samples import Failure, Sample
from sightline.targets import Contrast, Joint, PerImage, Region, Target, layers_of

__all__ = [
    "Measured",
    "Task",
    "Truth",
    "again_by",
    "counted",
    "explain_each",
    "measure_batch",
    "pinned",
    "truth_at_input",
    "views_of",
]

Truth = Callable[[Sample], "np.ndarray | None"]


@dataclass(frozen=True, eq=False)
class Task:
    """What is done with each batch: the plan of its explanations, the metrics with their parameters, the truth.

    ``truth`` gives the mask (H, W) of what should be marked on an original, or None where that is not known. Files are
    named from ``root`` on; ``numbers`` are those of the call's images that were drawn from it. ``covers`` asks of the
    model what covering places changes.
    """

    plan: Plan
    metrics: Sequence[Metric]
    parameters: Mapping[str, Mapping[str, Any]]
    truth: Truth | None = None
    root: str = ""
    numbers: Sequence[int] = ()
    covers: bool = True

    def name(self, sample: Sample) -> str:
        """Name an image: its file from the root on, or its number in the call."""
        return self.file(sample.given) or str(sample.name or f"image {self.numbers[sample.number]}")

    def file(self, given: Any) -> str | None:
        """Return a file's name from the root on, None for what is no file."""
        if not isinstance(given, (str, os.PathLike)):
            return None
        return os.path.relpath(os.path.abspath(os.fsdecode(given)), self.root or None).replace(os.sep, "/")

    @property
    def looks_at_images(self) -> bool:
        """Whether any of the metrics measures single images."""
        return any("mosaic" not in m.needs for m in self.metrics)


@dataclass(eq=False)
class Measured:
    """What came of a batch: explanations, values and curves by image, method and metric; what was refused, and time.

    ``values[method, metric]`` is (N,) over the batch; NaN where a metric is undefined for an image. ``unmarked`` says
    why nothing is known to be marked on a row's image.
    """

    batch: Sequence[Sample]
    explanations: dict[tuple[str, int], Explanation] = field(default_factory=dict)
    values: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    curves: dict[tuple[str, str], tuple[Tensor, Tensor]] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    cells: list[list[CellRow]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    unmarked: dict[int, str] = field(default_factory=dict)


def measure_batch(task: Task, batch: Sequence[Sample], fail: Callable[[Failure], None]) -> Measured:
    """Explain a batch by every method of the plan and measure the maps; what cannot be measured says why."""
    found = Measured(batch)
    explain_each(task.plan, found, fail)
    if not found.explanations:
        return found
    with views_of(task.plan, list(batch)) as views:
        truth = _truths(task, found, views["logit"].x, fail)
        found.cells = _covered(task, views, found, truth) if task.covers else [[] for _ in batch]
        for method in task.plan.methods:
            rows = [row for row in range(len(batch)) if (method.name, row) in found.explanations]
            if rows:
                _measure(task, method, views, rows, found, truth)
    return found


def explain_each(plan: Plan, found: Measured, fail: Callable[[Failure], None]) -> None:
    """Explain by one method after the other, so that each one's time is known."""
    numbered = [replace(sample, given=row) for row, sample in enumerate(found.batch)]
    for method in plan.methods:
        started = time.perf_counter()
        refused = _Refusals(lambda failure: fail(replace(failure, image=found.batch[failure.image].given)))
        for row, explanation in explain_batch(replace(plan, methods=[method]), numbered, refused):
            found.explanations[method.name, row] = explanation
        found.seconds[method.name] = time.perf_counter() - started
        if refused.said:
            found.refused[method.name, ""] = refused.said


class _Refusals:
    """Tell a method that does not fit the model, which is said once, from an image that fails."""

    def __init__(self, fail: Callable[[Failure], None]) -> None:
        self.fail, self.said = fail, ""

    def __call__(self, failure: Failure) -> None:
        if failure.method is None or not isinstance(failure.error, (RefusedError, LayerError)):
            self.fail(failure)
        else:
            self.said = str(failure.error)


@contextmanager
def views_of(plan: Plan, batch: list[Sample]) -> Iterator[dict[Score, Recording]]:
    """Open one recording of the batch, with a view for the target's logit and one for its probability."""
    tapped = tuple(name for t in plan.targets for name in layers_of(t))
    options = replace(plan.options, layers=tapped, from_input=False, output="logit")
    filled = batch + [batch[-1]] * ((plan.model.batch or 0) - len(batch))
    with record(plan.model, torch.stack([s.x for s in filled]), options) as rec:
        refuse_other_labels(plan.model, rec.shared.forward)
        yield {score: rec.for_target(_goal(plan, rec, filled, score)) for score in ("logit", "probability")}


def _goal(plan: Plan, rec: Recording, batch: list[Sample], score: Score) -> Any:
    goals = goals_of(replace(plan, options=replace(plan.options, output=score)), rec, batch)
    if len(goals) != 1:
        raise TargetError(
            f"{len(goals)} targets came; an evaluation measures one for each image: give top1 or a class."
        )
    return goals[0]


def _measure(
    task: Task,
    method: Method,
    views: Mapping[Score, Recording],
    rows: list[int],
    found: Measured,
    truth: Tensor | None,
) -> None:
    some = found.explanations[method.name, rows[0]]
    maps = torch.zeros(len(views["logit"].x), *some.input_size, dtype=torch.float32)
    for row in rows:
        maps[row] = torch.from_numpy(found.explanations[method.name, row].at_input())
    x = views["logit"].x
    case = Case(views, maps.to(x.device), truth, again_by(task.plan, method, views["logit"]))
    for metric in task.metrics:
        if "mosaic" in metric.needs:
            continue
        case.curves.clear()
        try:
            values = metric.compute(case, **task.parameters[metric.name])
        except SightlineError as error:
            found.refused[method.name, metric.name] = str(error)
            continue
        found.values[method.name, metric.name] = _of_rows(values, rows)
        for name, curve in case.curves.items():
            found.curves[method.name, name] = curve.shares, curve.scores


def _covered(
    task: Task, views: Mapping[Score, Recording], found: Measured, truths: Tensor | None
) -> list[list[CellRow]]:
    """Cover the cells of pictures, to see whether the model leans on places where the object is not."""
    rec = views["logit"]
    effect = covering_cells(views, CELLS, "zero") if rec.x.ndim == 4 else None
    if effect is None or effect.flips is None:
        return [[] for _ in found.batch]
    labels = grid(rec, CELLS)
    shares = torch.full_like(effect.drops["probability"], torch.nan)
    if truths is not None:
        known = truths.flatten(1).any(1).cpu()
        shares[known] = (sums(truths, labels) / sums(torch.ones_like(truths), labels))[known]
    return [
        [
            CellRow(
                task.name(sample),
                rec.goal.names[row].label,
                cell,
                float(effect.drops["probability"][row, cell]),
                bool(effect.flips[row, cell]),
                float(shares[row, cell]),
            )
            for cell in range(shares.shape[1])
        ]
        for row, sample in enumerate(found.batch)
    ]


def _of_rows(values: Tensor, rows: list[int]) -> Tensor:
    """Keep the values of images that were explained, NaN for the others."""
    kept = torch.full((len(values),), torch.nan, dtype=torch.float64)
    kept[rows] = values.double().cpu()[rows]
    return kept


def _truths(task: Task, found: Measured, x: Tensor, fail: Callable[[Failure], None]) -> Tensor | None:
    if task.truth is None:
        return None
    masks = [_marked(task.truth, found, row, fail) for row in range(len(found.batch))]
    masks += masks[-1:] * (len(x) - len(masks))
    return torch.from_numpy(np.stack(masks)).to(x.device)


def _marked(truth: Truth, found: Measured, row: int, fail: Callable[[Failure], None]) -> np.ndarray:
    """Return what is marked on a row's input; where that is nothing, keep why."""
    sample = found.batch[row]
    try:
        mask = truth(sample)
        marked = truth_at_input(mask, sample)
    except InputError as error:
        found.unmarked[row] = str(error)
        fail(Failure(sample.given, None, error))
        return truth_at_input(None, sample)
    if mask is None:
        found.unmarked[row] = "no box or mask was given for it"
    elif not marked.any():
        found.unmarked[row] = "its object is too small for the input, or outside of what the model sees"
    return marked


def truth_at_input(mask: np.ndarray | None, sample: Sample) -> np.ndarray:
    """Bring a mask (H, W) of the original onto the input's grid: bool (h, w), nowhere True where there is none."""
    size = tuple(sample.x.shape[1:])
    if mask is None:
        return np.zeros(size, bool)
    if sample.geometry is None:
        if mask.shape != size:
            raise InputError(f"a mask of shape {mask.shape} came for an input of {size}; wanted the same shape.")
        return mask.astype(bool)
    shares = np.nan_to_num(sample.geometry.to_tensor(mask.astype(np.float32)), nan=0.0)
    return np.asarray(shares >= 0.5)


def again_by(plan: Plan, method: Method, view: Recording) -> Again:
    """Return a function that explains the view's images once more by a method, for the same target."""
    fixed = pinned(plan.targets[0], view)

    def again(*, model: Model | None = None, x: Tensor | None = None, target: Target | None = None) -> Tensor:
        asked = replace(plan, model=model or plan.model, methods=[method], targets=[target or fixed])
        inputs = view.x if x is None else x
        given = [Sample(i, i, row, None, None, None, None, row.cpu().numpy()) for i, row in enumerate(inputs)]
        found = dict(explain_batch(replace(asked, images=len(given)), given, _raise))
        return torch.stack([torch.from_numpy(found[i].at_input()) for i in range(len(given))]).to(view.x.device)

    return again


def pinned(target: Target, view: Recording) -> Target:
    """Return a target with its classes fixed to those of the view's images: another model or input has another top1."""
    match target:
        case Contrast(wanted, other):
            return Contrast(pinned(wanted, view), pinned(other, view))
        case Joint(parts):
            return Joint(tuple(pinned(p, view) for p in parts))
        case Region(inner, mask):
            return Region(pinned(inner, view), mask)
    goal = resolve(target, view.shared.forward, view.model.labels, "logit")[0]
    return target if goal.classes is None else PerImage(tuple(goal.classes.tolist()))


def _raise(failure: Failure) -> None:
    raise failure.error


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """Count the images that pass forward through the model while the block runs: a list of one number.

    Copies of it with shuffled weights count too: a copy that is made meanwhile takes the hook with it.
    """
    passed = [0]

    def count(_: Any, given: tuple[Any, ...]) -> None:
        passed[0] += len(given[0])

    for module in (model.module, *model._shuffled.values()):
        module.register_forward_pre_hook(count)
    try:
        yield passed
    finally:
        for module in (model.module, *model._shuffled.values()):
            for key in [k for k, hook in module._forward_pre_hooks.items() if hook is count]:
                del module._forward_pre_hooks[key]
