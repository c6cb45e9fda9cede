"""Methods and controls measured over images: the cost said first, within a budget, resumable."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sightline.errors import InputError, ParameterError
from sightline.evaluation.asked import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    TRUTH_METRICS,
    drawn_numbers,
    made_task,
    root_of,
    settings_of,
)
from sightline.evaluation.cost import Cost
from sightline.evaluation.findings import findings_of
from sightline.evaluation.measuring import Measured, Task, Truth, counted, explain_each, measure_batch
from sightline.evaluation.objects.reading import read_truths
from sightline.evaluation.over_mosaics import MOSAIC, work_mosaics
from sightline.evaluation.reading import write_summary
from sightline.evaluation.results import Evaluation
from sightline.evaluation.rows import parts_of, refusal, skipped_of
from sightline.evaluation.store import Store, open_store
from sightline.evaluation.truth.scenes import COUNT, SOURCE, findings, scene_set
from sightline.explanation import Explanation
from sightline.forward import Precision
from sightline.methods import METHODS
from sightline.models.load import load
from sightline.models.model import Model
from sightline.samples import Failure, Sample, batches, samples
from sightline.targets import Target

__all__ = ["Cost", "evaluate"]

_SHOWN = 6


@dataclass(eq=False)
class _Run:
    """One evaluation under way."""

    task: Task
    store: Store
    tell: Callable[[Failure], None] | None
    step: Callable[[int], None]
    shown: list[list[Explanation]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    forwards: int = 0
    read: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        """Keep what failed and tell it, or raise it where nobody is to be told."""
        if self.tell is None:
            raise failure.error
        image = self.task.file(failure.image) or str(failure.image)
        reason = str(failure.error).replace(str(failure.image), image)
        told = {"image": image, "method": failure.method, "metric": None, "reason": reason}
        if told not in self.failed:
            self.failed.append(told)
            self.tell(failure)

    def measure(self, batch: Sequence[Sample]) -> None:
        """Measure a batch and keep what came of it."""
        before = len(self.failed)
        with counted(self.task.plan.model) as passed:
            found = measure_batch(self.task, batch, self.fail)
        self.forwards += passed[0]
        skipped = skipped_of(self.task, found) + self.failed[before:]
        self.store.add([_key(self.task, s) for s in batch], parts_of(self.task, found), skipped, found.seconds)
        self._show(found)
        self.step(len(batch))

    def show_again(self, sample: Sample) -> None:
        """Explain an image of an interrupted run for the report, where it is one of the first; nothing is measured."""
        if len(self.shown) < _SHOWN:
            found = Measured([sample])
            explain_each(self.task.plan, found, self.fail)
            self._show(found)

    @property
    def card_seconds(self) -> float:
        """About what the trust cards of one image take: each explains it eleven more times."""
        methods = [m.name for m in self.task.plan.methods if m.family != "control"]
        return 12 * sum(self.store.seconds.get(m, 0.0) for m in methods) / max(1, len(self.store.done))

    def checked(self, cards: int) -> list[list[Explanation]]:
        """Return what is shown, with trust cards for the first images' methods, controls left out."""
        methods = [m for m in self.task.plan.methods if m.family != "control"]
        for number, sample in enumerate(self.samples[:cards]):
            found = Measured([sample])
            explain_each(replace(self.task.plan, methods=methods, check=True), found, self.fail)
            filled = {name: e for (name, _), e in found.explanations.items()}
            self.shown[number] = [filled.get(e.method, e) for e in self.shown[number]]
        return self.shown

    def _show(self, found: Measured) -> None:
        for row in range(len(found.batch)):
            maps = [e for (_, r), e in found.explanations.items() if r == row]
            if maps and len(self.shown) < _SHOWN:
                self.shown.append(maps)
                self.samples.append(found.batch[row])


def evaluate(
    model: Model | nn.Module | str,
    images: Any,
    method: str | Sequence[str] = DEFAULT_METHODS,
    metric: str | Sequence[str] | None = None,
    *,
    target: Target = "top1",
    truth: Truth | str | os.PathLike[str] | Sequence[np.ndarray] | np.ndarray | None = None,
    layer: Any = None,
    precision: Precision = "model",
    seed: int = 0,
    limit: int | None = None,
    budget: float | None = None,
    batch_size: int = 8,
    cards: int = 2,
    out: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    on_cost: Callable[[Cost], None] = lambda cost: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Measure methods, and four controls beside them, by metrics over images.

    ``images`` are what `explain` takes, or "demo/scenes": 60 scenes, or ``limit``, whose objects are known and half
    of which carry a watermark; the findings say whether the model decides by it. ``truth`` is a file of boxes or a
    folder of masks (see `read_truths`), masks (N, H, W), or gives for a sample the mask (H, W) of its object, or
    None. ``metric`` is single_deletion, insertion, deletion, parameter_randomization and random_logit unless given,
    with truth also pointing_game and energy_pointing_game. ``limit`` takes so many images, drawn by the seed;
    ``budget`` is in seconds, and ends the run after the last batch that fits. ``precision`` is that of `explain`:
    "auto" halves the time of sweeps. ``cards`` images get trust cards. ``out`` is a directory: an interrupted run
    goes on there. ``parameters`` are those of methods, as in `explain`, and of metrics, as ``{"deletion.steps":
    14}``. ``on_cost`` is told the cost, measured on one image and one mosaic, before the others are begun.

    Raises what `explain` raises; ParameterError for unknown metrics and for a budget that no image fits.

    >>> from sightline.demo.scenes import scene
    >>> found = evaluate("demo/honest", [scene(i).image for i in range(3)], "grad_cam", "single_deletion")
    >>> len(found.values("grad_cam", "single_deletion"))
    3
    """
    loaded = model if isinstance(model, Model) else load(model)
    drawn = scene_set(limit or COUNT, seed) if isinstance(images, str) and images == SOURCE else None
    if drawn is not None:
        images, truth = drawn.images, drawn.objects if truth is None else truth
    listed = images if isinstance(images, (list, tuple, Tensor)) else [images]
    numbers = drawn_numbers(len(listed), limit, seed)
    if isinstance(truth, (str, os.PathLike)):
        truth = read_truths(truth, images)
    known = _as_truth(truth, numbers, len(listed))
    asked = metric if metric is not None else DEFAULT_METRICS if known is None else f"{DEFAULT_METRICS},{TRUTH_METRICS}"
    task = made_task(loaded, method, asked, target, known, layer, precision, seed, parameters or {})
    chosen = [listed[i] for i in numbers] if isinstance(listed, (list, tuple)) else listed[numbers]
    task = replace(task, root=root_of(chosen), numbers=numbers)
    settings = settings_of(task, seed, len(chosen))
    store = open_store(None if out is None else Path(out), settings)
    run = _Run(task, store, on_failure, on_step)
    started = time.perf_counter()
    cost = _work(run, chosen, budget, batch_size, on_cost) if task.looks_at_images else None
    work_mosaics(run, chosen, math.inf if budget is None else started + budget, on_cost)
    spent = time.perf_counter() - started
    if budget is not None and cards and spent + cards * run.card_seconds > budget:
        cards = 0
        run.store.skipped.append(refusal(None, None, "the budget left no time for trust cards."))
    found = _finished(run, settings, cost, spent, len(chosen), cards)
    if drawn is not None:
        found = replace(found, findings=(*findings(loaded, drawn), *found.findings))
    if out is not None:
        write_summary(found, Path(out))
    return found


def _as_truth(truth: Any, numbers: Sequence[int], images: int) -> Truth | None:
    """Return masks, one for each image of the call, as the function that gives a sample's."""
    if truth is None or callable(truth):
        known: Truth | None = truth
        return known
    masks = [np.asarray(m, bool) for m in truth]
    if len(masks) != images or any(m.ndim < 1 for m in masks):
        raise InputError(
            f"{len(masks)} masks came for {images} images; wanted one (H, W) for each, or a file of boxes."
        )
    return lambda sample: masks[numbers[sample.number]]


def _work(
    run: _Run, images: Any, budget: float | None, batch_size: int, on_cost: Callable[[Cost], None]
) -> Cost | None:
    """Measure two images alone, say what all will cost, and do as many as the budget allows."""
    deadline = math.inf if budget is None else time.perf_counter() + budget
    model, cost = run.task.plan.model, None
    todo, before_it = _todo(run, samples(model, images, run.fail)), len(run.store.done)
    for sample in itertools.islice(todo, 2):  # the first warms everything up, the second tells what one takes
        before, started = run.forwards, time.perf_counter()
        run.measure([sample])
        cost = Cost(len(images), run.forwards - before, time.perf_counter() - started)
        if budget is not None and cost.seconds_each > budget and len(images) > 1:
            raise ParameterError(
                f"a budget of {budget:g} s is too small: one image took {cost.seconds_each:.1f} s "
                f"({cost.forwards_each} forward passes); give more time, or fewer methods and metrics."
            )
    if cost is not None:
        _refuse_if_all_fail(run)
        on_cost(replace(cost, images=max(0, len(images) - before_it)))
    for batch in batches(todo, min(max(1, batch_size), model.batch or batch_size)):
        if cost is not None and time.perf_counter() + cost.seconds_each > deadline:
            run.store.skipped.append(_ended(run, budget, len(images)))
            break
        run.measure(batch)
    return cost


def _todo(run: _Run, found: Iterator[Sample]) -> Iterator[Sample]:
    for sample in found:
        if _key(run.task, sample) in run.store.done:
            run.show_again(sample)
            run.step(1)
        else:
            yield sample


def _key(task: Task, sample: Sample) -> str:
    return f"{task.name(sample)}:{sample.hash or sample.number}"


def _refuse_if_all_fail(run: _Run) -> None:
    """Raise what fails for every method on the first images: it will for the others too."""
    reasons = {s["reason"] for s in run.store.skipped}
    if not run.store.rows and len(reasons) == 1:
        raise InputError(f"nothing can be measured: {reasons.pop()}")


def _ended(run: _Run, budget: float | None, images: int) -> dict[str, Any]:
    reason = f"the budget of {budget:g} s ended the run after {len(run.store.done)} of {images} images"
    return refusal(None, None, f"{reason}; the same command goes on from there." if run.store.folder else f"{reason}.")


def _finished(
    run: _Run,
    settings: Mapping[str, Any],
    cost: Cost | None,
    seconds: float,
    asked: int,
    cards: int,
) -> Evaluation:
    run.store.save_tables()
    if not run.store.rows and not run.store.skipped:
        raise InputError("none of the images could be measured; see the errors above.")
    skipped = run.store.skipped + [f for f in run.failed if f not in run.store.skipped]
    spent = {
        "asked": asked,
        "measured": run.read + sum(not key.startswith(MOSAIC) for key in run.store.done),
        "forward_passes": run.forwards,
        "seconds": round(seconds, 2),
        "seconds_by_method": {m: round(s, 3) for m, s in run.store.seconds.items()},
    }
    rows = sorted(run.store.rows, key=lambda r: METHODS[r.method].family == "control")
    return Evaluation(
        rows,
        run.store.curves,
        skipped,
        settings,
        (cost.to_dict() if cost else {}) | spent,
        findings_of(run.store.cells, rows),
        run.checked(cards),
    )
