"""The one way from images to explanations; the command line, the app and the batch engine call it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import InputError, LayerError, ModelError, ParameterError, RefusedError, TargetError
from sightline.explanation import Explanation
from sightline.forward import Forward, Precision
from sightline.goals import Goal, resolve
from sightline.graph import RULES
from sightline.heatmap import fuse_maps, low_passed
from sightline.methods import METHODS, Method, find_methods
from sightline.models.load import load
from sightline.models.model import Model
from sightline.plan import Plan, make_plan
from sightline.points import noisy
from sightline.recording import Recording, record
from sightline.results import explanation_of
from sightline.samples import Failure, Sample, batches, samples
from sightline.targets import Output, PerImage, Target, layers_of, part_of
from sightline.tiles import tiled

__all__ = [
    "Failure",
    "cut_to_batch",
    "explain",
    "explain_batch",
    "explanations",
    "filled",
    "goals_of",
    "refuse_other_labels",
    "stacked",
]

_BATCH = 8


def explain(
    model: Model | nn.Module | str,
    images: Any,
    method: str | Sequence[str] = "grad_cam",
    target: Target | Sequence[Target] = "top1",
    *,
    contrast: Target | None = None,
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    output: Output = "logit",
    precision: Precision | torch.dtype = "model",
    seed: int = 0,
    batch_size: int = _BATCH,
    chunk: int | None = None,
    tile: int | None = None,
    overlap: float = 0.25,
    check: bool = False,
    tick: Callable[[int], None] | None = None,
    **parameters: Any,
) -> Explanation | list[Explanation]:
    """Explain what in the images made the model say that.

    ``images`` are paths, PIL images, arrays (H, W, C; uint8, or float in [0, 1]), or one preprocessed tensor
    (N, C, *S). One image with one method and one target gives one `Explanation`; lists, tensors, and several
    methods or targets give a flat list, ordered by image, method, target.

    ``target`` is "top1", "top3", an index, a label or an object of `sightline.targets`; a list is several for each
    image, a tensor or `per_image` one for each. ``contrast`` asks why the target rather than another. ``layer`` is
    the layer of CAMs (found by tracing when None); several are fused. ``output`` is "logit", "probability" or
    "log_probability". ``precision`` is "model" (its weights' own), "float64", "float32", "bfloat16", "float16", or
    "auto": sweeps that only need scores run in bfloat16, channels last, where the device computes in it and the first
    points' scores have a correlation of 0.999 with the model's own precision; a note says so.
    ``chunk`` bounds the points of one pass in sweeps.
    ``tile`` explains large pictures in tiles of that many pixels a side, which share ``overlap`` of it. ``check``
    asks of each explanation whether it can be believed: its ``check`` is a trust card, at the price of about eleven
    more explanations and 10 forward passes. ``tick`` is called with the number of points after each chunk of a sweep,
    and may raise to end it.
    Further parameters go to the methods that have them; ``{"grad_cam.relu": False}`` addresses one.

    Raises ImageError, TargetError, ParameterError, LayerError, ModelError or RefusedError; each says what to do.

    >>> from sightline.demo.scenes import scene
    >>> explain("demo/honest", scene(0).image, "grad_cam").method
    'grad_cam'
    """
    loaded = model if isinstance(model, Model) else load(model)
    several = (
        isinstance(images, (Tensor, list, tuple)) or not isinstance(method, str) or isinstance(target, (list, tuple))
    )
    found = [
        explanation
        for _, explanation in explanations(
            loaded,
            images,
            method,
            target,
            contrast=contrast,
            layer=layer,
            output=output,
            precision=precision,
            seed=seed,
            batch_size=batch_size,
            chunk=chunk,
            tile=tile,
            overlap=overlap,
            check=check,
            parameters=parameters,
            tick=tick,
        )
    ]
    return found if several or len(found) != 1 else found[0]


def explanations(
    model: Model,
    images: Any,
    method: str | Sequence[str] = "grad_cam",
    target: Target | Sequence[Target] = "top1",
    *,
    contrast: Target | None = None,
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    output: Output = "logit",
    precision: Precision | torch.dtype = "model",
    seed: int = 0,
    batch_size: int = _BATCH,
    chunk: int | None = None,
    tile: int | None = None,
    overlap: float = 0.25,
    check: bool = False,
    parameters: Mapping[str, Any] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Iterator[tuple[Any, Explanation]]:
    """Yield what `explain` returns, one after the other, each with its image as it was given.

    With ``on_failure`` an image or method that fails is handed to it and the others are still done; without, the
    first failure is raised. ``tick`` is called with the number of points after each chunk of a sweep.
    """
    if tile is not None:
        if check:
            raise ParameterError("check= asks about one pass over a picture, and tile= makes many; give one of them.")
        each = partial(
            explanations,
            contrast=contrast,
            layer=layer,
            output=output,
            precision=precision,
            seed=seed,
            batch_size=batch_size,
            chunk=chunk,
            parameters=parameters,
            tick=tick,
        )
        yield from tiled(each, model, images, find_methods(method), target, tile, overlap, on_failure or _raise)
        return
    plan = make_plan(
        model,
        method,
        target,
        contrast=contrast,
        layer=layer,
        output=output,
        precision=precision,
        seed=seed,
        chunk=chunk,
        parameters=parameters or {},
        tick=tick,
    )
    if batch_size < 1:
        raise ParameterError(f"batch_size={batch_size}: wanted at least 1.")
    plan = replace(plan, images=len(images) if isinstance(images, (Tensor, list, tuple)) else 1, check=check)
    _refuse_other_counts(plan.targets, plan.images)
    fail = on_failure or _raise
    for batch in batches(samples(plan.model, images, fail), min(batch_size, plan.model.batch or batch_size)):
        yield from explain_batch(plan, batch, fail)


def _refuse_other_counts(targets: Sequence[Target], images: int) -> None:
    for target in targets:
        if isinstance(target, PerImage) and len(target.parts) != images:
            raise TargetError(f"{len(target.parts)} targets came for {images} images; wanted one for each image.")


def _raise(failure: Failure) -> None:
    raise failure.error


def explain_batch(
    plan: Plan, batch: list[Sample], fail: Callable[[Failure], None]
) -> Iterator[tuple[Any, Explanation]]:
    """Explain one batch by every method and target of a plan; what fails goes to ``fail``."""
    started = time.perf_counter()
    try:
        recording = _open(plan, batch)
    except LayerError:
        raise  # the call names a layer that no image can make right
    except ModelError as error:
        if len(batch) == 1:
            fail(Failure(batch[0].given, None, error))
            return
        half = len(batch) // 2  # one image may have broken the pass for all
        yield from explain_batch(plan, batch[:half], fail)
        yield from explain_batch(plan, batch[half:], fail)
        return
    plan = cut_to_batch(plan, batch)
    with recording:
        goals = goals_of(plan, recording, batch)
        columns = [_column(plan, recording, goal, method, batch, fail) for method in plan.methods for goal in goals]
        if plan.check:
            from sightline.evaluation.checking import checked

            columns = checked(plan, recording, goals, batch, columns)
    seconds = (time.perf_counter() - started) / max(1, sum(len(c) for c in columns))
    for row in range(len(batch)):
        for column in columns:
            if row in column:
                yield batch[row].given, replace(column[row], seconds=seconds)


def cut_to_batch(plan: Plan, batch: list[Sample]) -> Plan:
    """Keep the batch's own of baselines, fills and segments that were given one for each image of the call."""
    numbers = _numbers(plan.model, batch)
    several = {"baseline": batch[0].x.ndim + 1, "fill": batch[0].x.ndim + 1, "segments": batch[0].x.ndim}

    def cut(name: str, value: Any) -> Any:
        ndim = several.get(name) if isinstance(value, (Tensor, np.ndarray)) else None
        if ndim is None or value.ndim != ndim or len(value) == 1:
            return value
        if len(value) != plan.images:
            raise ParameterError(
                f"{name} for {len(value)} images came with {_counted(plan.images)}; wanted one, or one for each image."
            )
        return value[numbers]

    parameters = {m: {k: cut(k, v) for k, v in p.items()} for m, p in plan.parameters.items()}
    return replace(plan, parameters=parameters)


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _open(plan: Plan, batch: list[Sample]) -> Recording:
    x = stacked(plan.model, batch)
    layers = tuple(name for m in plan.methods for name in _layers_if_any(plan, m, x))
    tapped = (*layers, *(name for t in plan.targets for name in layers_of(t)))
    options = replace(plan.options, layers=tapped, from_input=any("input" in m.reads for m in plan.methods))
    rec = record(plan.model, x, options)
    refuse_other_labels(plan.model, rec.shared.forward)
    return rec


def stacked(model: Model, batch: list[Sample]) -> Tensor:
    """Return the batch (N, C, *S) that the model is given for some images."""
    return torch.stack([s.x for s in filled(model, batch)])


def _numbers(model: Model, batch: list[Sample]) -> list[int]:
    return [s.number for s in filled(model, batch)]


def filled(model: Model, batch: list[Sample]) -> list[Sample]:
    """Repeat the last image up to the batch that the model was exported for; what it gives for those is not used."""
    return batch + [batch[-1]] * ((model.batch or 0) - len(batch))


def _layers_if_any(plan: Plan, method: Method, x: Tensor) -> tuple[str, ...]:
    """Return the layers to tap; where a model has none for CAMs, each CAM says so by itself later."""
    try:
        return plan.layers_for(method, x)
    except LayerError:
        return ()


def refuse_other_labels(model: Model, forward: Forward) -> None:
    """Raise InputError unless there are as many class names as outputs, or none."""
    outputs = forward.logits.shape[1]
    if len(model.labels) and len(model.labels) != (2 if outputs == 1 else outputs):
        wanted = (
            "two names, of the classes 0 and 1" if outputs == 1 else "one name for each class, in the model's order"
        )
        raise InputError(
            f"{len(model.labels)} class names came for {model.name}, which has {outputs} "
            f"output{'s' if outputs > 1 else ''}; wanted {wanted}."
        )


def goals_of(plan: Plan, rec: Recording, batch: list[Sample]) -> list[Goal]:
    """Return what a plan's targets mean for the images of a batch."""
    images = _numbers(plan.model, batch)
    forward = rec.shared.forward
    return [
        goal
        for target in plan.targets
        for goal in resolve(part_of(target, images), forward, plan.model.labels, plan.options.output)
    ]


def _column(
    plan: Plan,
    rec: Recording,
    goal: Goal,
    method: Method,
    batch: list[Sample],
    fail: Callable[[Failure], None],
) -> dict[int, Explanation]:
    """Explain one method and one target for every image of the batch: {row: explanation}."""
    view = rec.for_target(goal)
    try:
        with _named(method):
            attribution = _attribution(plan, view, method)
        _refuse_nan(attribution, method)
    except (RefusedError, ModelError, LayerError) as error:
        if isinstance(error, LayerError) and plan.layers:
            raise  # the call names a layer that no image can make right
        for sample in batch:
            fail(Failure(sample.given, method.name, error))
        return {}
    answered = {row: sample for row, sample in enumerate(batch) if row not in view.reports.get("refused", {})}
    for row in sorted(set(range(len(batch))) - set(answered)):
        fail(Failure(batch[row].given, method.name, view.reports["refused"][row]))
    return {row: explanation_of(plan, view, method, attribution, row, sample) for row, sample in answered.items()}


@contextmanager
def _named(method: Method) -> Iterator[None]:
    """Let errors about what the method was given, or cannot do here, begin with a name."""
    try:
        yield
    except (RefusedError, ParameterError) as error:
        if re.match(rf"{method.name}\b", str(error)):
            raise
        rules = "|".join((*RULES, *METHODS))  # a rule's name is not what was asked for
        said = re.sub(rf"^({rules}): ", "", str(error))
        raise type(error)(f"{method.name}: {said}") from error


def _attribution(plan: Plan, view: Recording, method: Method) -> Tensor:
    parameters = plan.parameters[method.name]
    layers = plan.layers_for(method, view.x)
    at_once = [layers] if method.fuses or not layers else [(name,) for name in layers]
    found = (_averaged(replace(view, layers=names), method, parameters) for names in at_once)
    maps = [_filtered(one, parameters) for one in found]
    if len({m.shape[1] for m in maps if m.ndim == view.x.ndim}) > 1:
        raise RefusedError(f"{method.name}: the layers have different channels, which cannot be fused; give one layer.")
    return maps[0] if len(maps) == 1 else fuse_maps(maps, str(parameters["fuse"]))


def _filtered(attribution: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Keep only the low frequencies of a map at the input, where that was asked for."""
    return low_passed(attribution, parameters["low_pass"]) if "low_pass" in parameters else attribution


def _averaged(view: Recording, method: Method, parameters: Mapping[str, Any]) -> Tensor:
    """Compute the method at its layers, averaged over noisy copies of the images where that was asked for."""
    own = {k: v for k, v in parameters.items() if k in method.own}
    copies = parameters["smooth_samples"]
    if not copies:
        return torch.as_tensor(method.compute(view, **own))
    points = noisy(view.x, copies, parameters["smooth_noise"], parameters["smooth_scale"], view.seed)
    total = torch.zeros((), device=view.x.device)
    for child, size in view.children(points):
        total = total + method.compute(child, **own).unflatten(0, (size, -1)).sum(0)
        for error in child.reports.get("refused", {}).values():
            raise error
    return torch.div(total, copies)


def _refuse_nan(attribution: Tensor, method: Method) -> None:
    if not bool(torch.isfinite(attribution.float()).all()):  # results are kept in float32
        raise RefusedError(
            f"{method.name}: the attribution holds NaN or infinity; the model's numbers overflow at this precision: "
            "try precision='float64'."
        )
