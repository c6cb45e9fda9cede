"""The one way from images to explanations; the command line, the app and the batch engine call it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ImageError, InputError, ModelError, ParameterError, RefusedError, SightlineError
from sightline.explanation import Explanation, Prediction
from sightline.forward import Forward, Precision
from sightline.geometry import Geometry, restore
from sightline.heatmap import fuse_maps
from sightline.methods import Method, find_methods, resolve_parameters
from sightline.models.load import load
from sightline.models.model import Model
from sightline.points import noisy
from sightline.recording import Options, Recording, record
from sightline.targets import (
    Contrast,
    Goal,
    Output,
    PerImage,
    Target,
    layers_of,
    part_of,
    probabilities,
    resolve,
)

__all__ = ["Failure", "explain", "explanations", "predict"]

_BATCH = 8
_TOP = 5
_GAP = 0.05


@dataclass(frozen=True)
class Failure:
    """What could not be explained: the image as it was given (None: all of them), the method, and why."""

    image: Any
    method: str | None
    error: SightlineError


@dataclass(frozen=True, eq=False)
class _Sample:
    given: Any
    number: int
    x: Tensor
    geometry: Geometry | None
    pixels: np.ndarray | None
    name: str | None
    hash: str | None


@dataclass(frozen=True, eq=False)
class _Plan:
    model: Model
    methods: Sequence[Method]
    parameters: Mapping[str, Mapping[str, Any]]
    targets: Sequence[Target]
    layers: tuple[str, ...]
    options: Options
    check: bool


def explain(
    model: Model | nn.Module | str,
    images: Any,
    method: str | Sequence[str] = "grad_cam",
    target: Target | Sequence[Target] = "top1",
    *,
    contrast: Target | None = None,
    layer: str | Sequence[str] | None = None,
    output: Output = "logit",
    precision: Precision = "model",
    seed: int = 0,
    check: bool = True,
    batch_size: int = _BATCH,
    chunk: int | None = None,
    **parameters: Any,
) -> Explanation | list[Explanation]:
    """Explain what in the images made the model say that.

    ``images`` are paths, PIL images, arrays (H, W, C; uint8, or float in [0, 1]), or one preprocessed tensor
    (N, C, *S). One image with one method and one target gives one `Explanation`; lists, tensors, and several
    methods or targets give a flat list, ordered by image, method, target.

    ``target`` is "top1", "top3", an index, a label or an object of `sightline.targets`; a list is several for each
    image, a tensor or `per_image` one for each. ``contrast`` asks why the target rather than another. ``layer`` is
    the layer of CAMs (found by tracing when None); several are fused. ``output`` is "logit", "probability" or
    "log_probability". ``precision`` is "model" (its weights' own), "float64", "float32", "bfloat16" or "float16".
    ``check`` refuses broken weights and notes poor completeness. ``chunk`` bounds the points of one pass in sweeps.
    Further parameters go to the methods that have them; ``{"grad_cam.relu": False}`` addresses one.

    Raises ImageError, TargetError, ParameterError, LayerError, ModelError or RefusedError; each says what to do.

    >>> from sightline.demo.scenes import scene
    >>> explain("demo/honest", scene(0).image, "grad_cam").method
    'grad_cam'
    """
    loaded = model if isinstance(model, Model) else load(model)
    several = _is_several(images) or not isinstance(method, str) or isinstance(target, (list, tuple))
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
            check=check,
            batch_size=batch_size,
            chunk=chunk,
            parameters=parameters,
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
    layer: str | Sequence[str] | None = None,
    output: Output = "logit",
    precision: Precision = "model",
    seed: int = 0,
    check: bool = True,
    batch_size: int = _BATCH,
    chunk: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Iterator[tuple[Any, Explanation]]:
    """Yield what `explain` returns, one after the other, each with its image as it was given.

    With ``on_failure`` an image or method that fails is handed to it and the others are still done; without, the
    first failure is raised. ``tick`` is called with the number of points after each chunk of a sweep.
    """
    methods = find_methods(method)
    plan = _Plan(
        model=model.in_precision(precision),
        methods=methods,
        parameters=resolve_parameters(methods, parameters or {}),
        targets=_targets(target, contrast),
        layers=_layer_names(layer),
        options=Options(
            output=_one_of("output", output, Output),
            precision=_one_of("precision", precision, Precision),
            seed=seed,
            chunk=chunk,
            tick=tick,
        ),
        check=check,
    )
    if check:
        plan.model.check_weights()
    fail = on_failure or _raise
    for batch in _batches(_samples(plan.model, images, fail), batch_size):
        yield from _explain_batch(plan, batch, fail)


def _raise(failure: Failure) -> None:
    raise failure.error


def _one_of(name: str, value: Any, choices: Any) -> Any:
    if value not in choices.__args__:
        raise ParameterError(f"{name}={value!r}: wanted one of {', '.join(choices.__args__)}.")
    return value


def _is_several(images: Any) -> bool:
    return isinstance(images, (Tensor, list, tuple))


def _targets(target: Target | Sequence[Target], contrast: Target | None) -> list[Target]:
    listed: list[Target] = list(target) if isinstance(target, (list, tuple)) else [_per_image(target)]
    if not listed:
        raise ParameterError("target=[]: wanted at least one target.")
    return listed if contrast is None else [Contrast(t, contrast) for t in listed]


def _per_image(target: Any) -> Target:
    """Read a tensor or array of indices as one target for each image."""
    if not isinstance(target, (Tensor, np.ndarray)):
        return target  # type: ignore[no-any-return]
    return PerImage(tuple(int(t) for t in np.asarray(target).reshape(-1).tolist()))


def _layer_names(layer: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if layer is None else (layer,) if isinstance(layer, str) else tuple(layer)


def _samples(model: Model, images: Any, fail: Callable[[Failure], None]) -> Iterator[_Sample]:
    if isinstance(images, Tensor):
        yield from _tensor_samples(model, images)
        return
    listed = images if isinstance(images, (list, tuple)) else [images]
    if not listed:
        raise ImageError("no images came; wanted at least one path, PIL image, array or tensor.")
    for number, given in enumerate(listed):
        try:
            sample = _sample(model, given, number)
        except ImageError as error:
            fail(Failure(given, None, error))
        else:
            yield sample


def _sample(model: Model, given: Any, number: int) -> _Sample:
    if isinstance(given, Tensor):
        raise ImageError(
            f"a list of tensors came (one of shape {tuple(given.shape)}); wanted one preprocessed tensor (N, C, *S): "
            "stack them with torch.stack."
        )
    picture = model.read(given)
    x, geometry = model.prepare(picture)
    return _Sample(given, number, x, geometry, picture.pixels, picture.name, picture.hash)


def _tensor_samples(model: Model, images: Tensor) -> Iterator[_Sample]:
    if images.ndim < 3 or not len(images):
        raise ImageError(
            f"a tensor of shape {tuple(images.shape)} came; wanted preprocessed images (N, C, H, W) or signals "
            "(N, C, L)."
        )
    if not images.is_floating_point():
        raise ImageError(
            f"a tensor of {images.dtype} came; wanted float, already preprocessed. Give 8-bit pixels as an array "
            "(H, W, C)."
        )
    if not bool(torch.isfinite(images).all()):
        raise ImageError("the tensor holds NaN or infinity; wanted finite preprocessed values.")
    for number, x in enumerate(images.detach().to(model.device, model.dtype)):
        known = x.ndim == 3 and model.preprocessing.channels == len(x) and len(x) in (1, 3, 4)
        pixels = restore(x.float().cpu(), model.preprocessing) if known else None
        yield _Sample(number, number, x, None, pixels, None, None)


def _batches(samples: Iterable[_Sample], size: int) -> Iterator[list[_Sample]]:
    """Group neighbours of one shape, so that a batch can be stacked."""
    batch: list[_Sample] = []
    for sample in samples:
        if batch and (len(batch) >= max(1, size) or sample.x.shape != batch[0].x.shape):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _explain_batch(
    plan: _Plan, batch: list[_Sample], fail: Callable[[Failure], None]
) -> Iterator[tuple[Any, Explanation]]:
    started = time.perf_counter()
    try:
        recording = _open(plan, batch)
    except ModelError as error:
        if len(batch) == 1:
            fail(Failure(batch[0].given, None, error))
            return
        for sample in batch:  # one image may have broken the pass for all
            yield from _explain_batch(plan, [sample], fail)
        return
    with recording:
        goals = _goals(plan, recording, batch)
        columns = [_column(plan, recording, goal, method, batch, fail) for method in plan.methods for goal in goals]
    seconds = (time.perf_counter() - started) / max(1, sum(len(c) for c in columns))
    for row in range(len(batch)):
        for column in columns:
            if row in column:
                yield batch[row].given, replace(column[row], seconds=seconds)


def _open(plan: _Plan, batch: list[_Sample]) -> Recording:
    x = torch.stack([s.x for s in batch])
    reads = {r for m in plan.methods for r in m.reads}
    layers = _layers_for(plan, x) if "layer" in reads else ()
    tapped = (*layers, *(name for t in plan.targets for name in layers_of(t)))
    options = replace(plan.options, layers=tapped, from_input="input" in reads)
    rec = record(plan.model, x, options)
    _refuse_other_labels(plan.model, rec.shared.forward)
    return replace(rec, layer=layers[0] if layers else None)


def _refuse_other_labels(model: Model, forward: Forward) -> None:
    outputs = forward.logits.shape[1]
    if len(model.labels) and len(model.labels) != (2 if outputs == 1 else outputs):
        raise InputError(
            f"{len(model.labels)} class names came for {model.name}, which has {outputs} outputs; wanted one name for "
            "each class, in the model's order."
        )


def _layers_for(plan: _Plan, x: Tensor) -> tuple[str, ...]:
    return plan.layers or (plan.model.default_layer(x),)


def _goals(plan: _Plan, rec: Recording, batch: list[_Sample]) -> list[Goal]:
    images = slice(batch[0].number, batch[-1].number + 1)
    forward = rec.shared.forward
    return [
        goal
        for target in plan.targets
        for goal in resolve(part_of(target, images), forward, plan.model.labels, plan.options.output)
    ]


def _column(
    plan: _Plan,
    rec: Recording,
    goal: Goal,
    method: Method,
    batch: list[_Sample],
    fail: Callable[[Failure], None],
) -> dict[int, Explanation]:
    """Explain one method and one target for every image of the batch: {row: explanation}."""
    view = rec.for_target(goal)
    try:
        attribution = _attribution(plan, view, method)
        _refuse_nan(attribution, method)
    except (RefusedError, ModelError) as error:
        for sample in batch:
            fail(Failure(sample.given, method.name, error))
        return {}
    return {row: _explanation(plan, view, method, attribution, row, sample) for row, sample in enumerate(batch)}


def _attribution(plan: _Plan, view: Recording, method: Method) -> Tensor:
    parameters = plan.parameters[method.name]
    layers = _layers_for(plan, view.x) if "layer" in method.reads else (None,)
    maps = [_averaged(view, name, method, parameters) for name in layers]
    return maps[0] if len(maps) == 1 else fuse_maps(maps, str(parameters["fuse"]))


def _averaged(view: Recording, layer: str | None, method: Method, parameters: Mapping[str, Any]) -> Tensor:
    """Compute the method at one layer, averaged over noisy copies of the images where that was asked for."""
    own = {k: v for k, v in parameters.items() if k in method.own}
    at_layer = replace(view, layer=layer)
    samples = parameters["smooth_samples"]
    if not samples:
        return torch.as_tensor(method.compute(at_layer, **own))
    points = noisy(view.x, samples, parameters["smooth_noise"], parameters["smooth_scale"], view.seed)
    total = torch.zeros((), device=view.x.device)
    for child, size in at_layer.children(points):
        total = total + method.compute(child, **own).unflatten(0, (size, -1)).sum(0)
    return torch.div(total, samples)


def _refuse_nan(attribution: Tensor, method: Method) -> None:
    if not bool(torch.isfinite(attribution).all()):
        raise RefusedError(
            f"{method.name}: the attribution holds NaN or infinity; the model's numbers overflow at this precision: "
            "try precision='float64'."
        )


def _explanation(
    plan: _Plan, view: Recording, method: Method, attribution: Tensor, row: int, sample: _Sample
) -> Explanation:
    values = attribution[row].detach().cpu().float().numpy().copy()
    completeness = view.reports.get("completeness")
    error = view.reports.get("standard_error")
    parameters = dict(plan.parameters[method.name])
    uses_layer = "layer" in method.reads
    found = Explanation(
        attribution=values,
        method=method.name,
        target=view.goal.names[row],
        score=float(view.scores[row]),
        parameters=parameters,
        predictions=_predictions(view.shared.forward, plan.model, row),
        input_size=tuple(sample.x.shape[1:]),
        style=_style(method, values, parameters),
        per_channel="reduction" in method.parameters,
        layer=_layer_text(plan, view) if uses_layer else None,
        image=sample.pixels,
        geometry=sample.geometry,
        coverage=view.coverages[0] if view.coverages else None,
        completeness=completeness[row] if completeness else None,
        standard_error=float(error[row].abs().mean()) if error is not None else None,
        precision=str(plan.model.dtype).removeprefix("torch.")
        if plan.options.precision not in ("bfloat16", "float16")
        else plan.options.precision,
        provenance=_provenance(plan, sample),
    )
    return replace(found, notes=_notes(found)) if plan.check else found


def _layer_text(plan: _Plan, view: Recording) -> str:
    return "+".join(_layers_for(plan, view.x))


def _style(method: Method, values: np.ndarray, parameters: Mapping[str, Any]) -> Any:
    """Draw what is signed with a diverging map, whatever the method's usual style."""
    signed = bool((values < 0).any())
    reduction = parameters.get("reduction")
    if reduction in ("max-abs", "sum-abs", "l2"):
        return "grey" if method.style == "diverging" else method.style
    return "diverging" if signed else ("sequential" if method.style == "grey" else method.style)


def _notes(e: Explanation) -> tuple[str, ...]:
    notes = []
    if not e.attribution.any():
        notes.append("the map is zero everywhere: nothing here speaks for this target by this method")
    if e.completeness is not None and e.completeness.gap > _GAP:
        notes.append(f"incomplete: the sum is {e.completeness.gap:.0%} off f(x) - f(baseline); take more steps")
    if e.coverage is not None and e.coverage.unchanged:
        kept = ", ".join(
            f"{n} {name.removesuffix('0').removesuffix('Backward')}" for name, n in e.coverage.unchanged.items()
        )
        notes.append(f"{e.coverage.changed} ReLUs changed; left as they are: {kept}")
    if e.coverage is not None and e.coverage.unseen:
        notes.append(f"could not see into: {', '.join(e.coverage.unseen)}")
    return tuple(notes)


def _predictions(forward: Forward, model: Model, row: int) -> list[Prediction]:
    logits, chances = _scores_of_classes(forward, row)
    best = chances.topk(min(_TOP, len(chances))).indices.tolist()
    return [
        Prediction(
            index=i,
            label=model.labels.name(i),
            id=model.labels.id(i),
            logit=float(logits[i]),
            probability=float(chances[i]),
        )
        for i in best
    ]


def _scores_of_classes(forward: Forward, row: int) -> tuple[Tensor, Tensor]:
    chances = probabilities(forward)[row].cpu()
    logits = forward.logits.detach().float()[row].cpu()
    logits = logits.flatten(1).mean(1) if logits.ndim > 1 else logits
    if len(chances) == 1:  # one output has two sides
        return torch.cat((-logits, logits)), torch.cat((1 - chances, chances))
    return logits, chances


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "sightline": version("sightline"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _provenance(plan: _Plan, sample: _Sample) -> dict[str, Any]:
    model = plan.model
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "preprocessing": model.preprocessing.describe() if sample.geometry is not None else "given as a tensor",
        "image": sample.name,
        "image_hash": sample.hash,
        "output": plan.options.output,
        "seed": plan.options.seed,
        "device": str(model.device),
        "versions": _versions(),
    }


def predict(model: Model | nn.Module | str, images: Any) -> list[list[Prediction]]:
    """Return each image's best classes, best first, with one forward pass for each batch and no gradient.

    Raises ImageError and ModelError as `explain` does.
    """
    from sightline.forward import run_forward

    loaded = model if isinstance(model, Model) else load(model)
    found = []
    for batch in _batches(_samples(loaded, images, _raise), _BATCH):
        forward = run_forward(loaded.module, torch.stack([s.x for s in batch]), grad=False)
        found += [_predictions(forward, loaded, row) for row in range(len(batch))]
    return found
