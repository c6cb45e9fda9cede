"""Metrics for maps that are there already: explanations, or arrays of any other tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import InputError, ParameterError, RefusedError
from sightline.evaluation.case import Case
from sightline.evaluation.measuring import again_by, truth_at_input, views_of
from sightline.evaluation.registry import find_metrics, metric_parameters
from sightline.explanation import Explanation
from sightline.models.load import load
from sightline.models.model import Model
from sightline.plan import Plan, make_plan
from sightline.samples import Failure, Sample, batches, samples
from sightline.targets import PerImage, Target, part_of

__all__ = ["class_of", "measure", "opened", "pictures_of"]

_SAME = 0.01


def measure(
    model: Model | nn.Module | str,
    maps: Explanation | Sequence[Explanation] | np.ndarray | Tensor,
    images: Any = None,
    metric: str | Sequence[str] = "single_deletion",
    *,
    target: Target | None = None,
    truth: Any = None,
    method: str | None = None,
    seed: int = 0,
    batch_size: int = 8,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Measure maps by metrics: {metric: (N,)}, one number for each image, NaN where it is undefined.

    ``maps`` are explanations, which know their target and picture, or arrays (N, *S), (*S) for one, on the model's
    input or on the original picture, larger where more relevant; then ``images`` are what `explain` takes, and
    ``target`` is what the maps explain ("top1" unless given). ``truth`` are masks (N, H, W) or (H, W) of what should
    be marked, on the originals. ``method`` is the one that made the arrays, for metrics that explain again.
    ``parameters`` are those of the metrics, as ``{"deletion.steps": 14}``.

    Raises InputError for maps of another size or with NaN, and what `explain` raises.

    >>> import sightline
    >>> from sightline.demo.scenes import scene
    >>> e = sightline.explain("demo/honest", scene(0).image)
    >>> sorted(measure("demo/honest", e, metric="single_deletion,insertion"))
    ['insertion', 'single_deletion']
    """
    loaded = model if isinstance(model, Model) else load(model)
    metrics = find_metrics(metric)
    mosaics = [m.name for m in metrics if "mosaic" in m.needs]
    if mosaics:
        raise ParameterError(f"{mosaics[0]} explains mosaics of many images; use sightline.evaluation.run.evaluate.")
    resolved = metric_parameters(metrics, parameters or {})
    made = _explanations(maps)
    given = images if images is not None else pictures_of(made)
    aim = target if target is not None else class_of(loaded, made)
    plan = _plan(loaded, method, made, aim, seed)
    found: dict[str, list[np.ndarray]] = {m.name: [] for m in metrics}
    count, dims = 0, 0
    for batch in batches(samples(plan.model, given, _raise), min(batch_size, plan.model.batch or batch_size)):
        heat = _maps(maps, made, batch)
        part = replace(plan, targets=[part_of(aim, [s.number for s in batch])])
        with views_of(part, batch) as views:
            again = again_by(part, part.methods[0], views["logit"]) if method or made else None
            case = Case(views, heat.to(views["logit"].x.device), _truth(truth, batch), again)
            if method and any("method" in m.needs and m.family in ("robustness", "axiom") for m in metrics):
                _refuse_others(case, method)
            for m in metrics:
                with _named(m.name):
                    values = m.compute(case, **resolved[m.name])
                found[m.name].append(values.double().cpu().numpy()[: len(batch)])
        count, dims = count + len(batch), batch[0].x.ndim - 1
    _refuse_counts(maps, made, count, dims)
    return {name: np.concatenate(values) for name, values in found.items()}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let errors begin with the metric's name."""
    try:
        yield
    except (RefusedError, InputError) as error:
        raise type(error)(f"{name}: {error}") from error


def _refuse_others(case: Case, method: str) -> None:
    """Refuse maps that a method does not give: what it gives for other inputs could not be compared with them."""
    own = case.explained().flatten(1).double()
    given = case.maps.flatten(1).double()
    gap = (own - given).abs().amax(1) / own.abs().amax(1).clamp(min=1e-30)
    known = given.abs().amax(1) > 0  # of a map of zeros there is no relative change whatever it is compared with
    if bool((gap > _SAME)[known].any()):
        raise InputError(
            f"the maps are not what {method} gives here (they differ by {float(gap.max()):.0%} of the largest value, "
            "perhaps because they were scaled), and metrics that explain again compare with it: give them as they came "
            "from it, or the explanations themselves."
        )


def _raise(failure: Failure) -> None:
    raise failure.error


def _explanations(maps: Any) -> list[Explanation]:
    listed = [maps] if isinstance(maps, Explanation) else maps
    if isinstance(listed, (list, tuple)) and any(isinstance(e, Explanation) for e in listed):
        methods = {(e.method, str(dict(e.parameters))) for e in listed if isinstance(e, Explanation)}
        if len(methods) != 1 or not all(isinstance(e, Explanation) for e in listed):
            raise ParameterError("explanations of several methods came; measure one method at a time, or use evaluate.")
        return list(listed)
    return []


@contextmanager
def opened(model: Model, e: Explanation, *, seed: int = 0, tick: Callable[[int], None] | None = None) -> Iterator[Case]:
    """Open the case of one explanation: its map on the model's input, and the model that it can be tested with.

    Raises InputError for an explanation that does not hold its picture, or whose target is no class.
    """
    plan = _plan(model, None, [e], class_of(model, [e]), seed, tick)
    with views_of(plan, list(samples(plan.model, pictures_of([e]), _raise))) as views:
        x = views["logit"].x
        maps = torch.from_numpy(e.at_input()).to(x.device).expand(len(x), *e.input_size)
        yield Case(views, maps, again=again_by(plan, plan.methods[0], views["logit"]))


def pictures_of(made: Sequence[Explanation]) -> list[np.ndarray]:
    """Return the pictures that explanations hold; InputError where one holds none."""
    if not made:
        raise InputError("arrays came without their images; give images=, what the maps explain.")
    shown = [e.image if e.geometry is not None else None for e in made]
    if any(s is None for s in shown):
        raise InputError("these explanations do not hold their pictures; give images=, what they explain.")
    return [s for s in shown if s is not None]


def class_of(model: Model, made: Sequence[Explanation]) -> Target:
    """Return the class that each explanation explains; InputError where it is none of the model's."""
    return PerImage(tuple(_class(model, e) for e in made)) if made else "top1"


def _class(model: Model, e: Explanation) -> int:
    index, label = e.target.index, e.target.label
    if index is None or label != model.labels.name(index):
        raise InputError(f"the target '{label}' is no class of {model.name}; give target=, what the maps explain.")
    return index


def _plan(
    model: Model,
    method: str | None,
    made: Sequence[Explanation],
    target: Target,
    seed: int,
    tick: Callable[[int], None] | None = None,
) -> Plan:
    name = method or (made[0].method if made else "constant")
    layers = made[0].layer.split("+") if made and made[0].layer else None
    given = {f"{name}.{k}": v for k, v in made[0].parameters.items()} if made and not method else {}
    return make_plan(
        model,
        name,
        target,
        contrast=None,
        layer=layers,
        output="logit",
        precision="model",
        seed=seed,
        chunk=None,
        parameters=given,
        tick=tick,
    )


def _maps(maps: Any, made: Sequence[Explanation], batch: Sequence[Sample]) -> Tensor:
    if made:
        return torch.stack([torch.from_numpy(made[s.number].at_input()) for s in batch])
    values = np.asarray(maps.detach().cpu() if isinstance(maps, Tensor) else maps, np.float32)
    values = values[None] if values.ndim == len(batch[0].x.shape) - 1 else values
    return torch.from_numpy(np.stack([_at_input(values, s) for s in batch]))


def _at_input(values: np.ndarray, sample: Sample) -> np.ndarray:
    size = tuple(sample.x.shape[1:])
    if sample.number >= len(values):
        raise InputError(f"{len(values)} maps came for more images; wanted one for each image.")
    found = values[sample.number]
    if sample.geometry is not None and found.shape == sample.geometry.original != size:
        outside = ~sample.geometry.seen()  # what the crop cut off may be unknown
        found = sample.geometry.to_tensor(np.where(outside & np.isnan(found), np.nan, found))
        found = np.where(sample.geometry.filled(), found, 0)
    if found.shape != size:
        own = f" or the picture's {sample.geometry.original}" if sample.geometry is not None else ""
        raise InputError(f"a map of shape {found.shape} came; wanted the model's input, {size},{own} for each image.")
    if not np.isfinite(found).all():
        raise InputError("a map holds NaN or infinity, which ranks no position; mend it where it was made.")
    return np.asarray(found, np.float32)


def _truth(truth: Any, batch: Sequence[Sample]) -> Tensor | None:
    if truth is None:
        return None
    masks = np.asarray(truth)
    several = masks.ndim == len(batch[0].x.shape)
    return torch.from_numpy(np.stack([truth_at_input(masks[s.number] if several else masks, s) for s in batch]))


def _refuse_counts(maps: Any, made: Sequence[Explanation], images: int, dims: int) -> None:
    have = len(made) if made else (len(maps) if np.ndim(maps) > dims else 1)
    if have != images:
        raise InputError(f"{have} maps came for {images} images; wanted one for each image.")
