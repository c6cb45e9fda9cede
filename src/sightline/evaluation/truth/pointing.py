"""Whether a map points at the right one of several images: metrics over mosaics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.engine import explain_batch
from sightline.errors import LayerError, ModelError, RefusedError
from sightline.evaluation.registry import metric
from sightline.evaluation.truth.heads import STITCHED, alone, pooled, stitched
from sightline.evaluation.truth.mosaic import Measured, Mosaic, Trial, shares
from sightline.explanation import Explanation
from sightline.methods import Method
from sightline.models.model import Model
from sightline.plan import Plan
from sightline.samples import Failure, Sample
from sightline.schema import Range

__all__ = ["difull", "dipart", "grid_pointing_game"]

Side = Annotated[int, Range(2)]
Count = Annotated[int, Range(1)]
Chance = Annotated[float, Range(0, 1)]
Fit = Literal["whole", "shrink"]


@metric(
    family="localization",
    better="higher",
    cite="Böhle et al. 2021, arXiv:2104.00032, sec. 4.2 (grid pointing game); Rao et al. 2022, arXiv:2205.10435",
    needs="mosaic",
)
def grid_pointing_game(
    trial: Trial, cells: Side = 2, confidence: Chance = 0.95, mosaics: Count = 50, fit: Fit = "whole"
) -> Iterator[Measured]:
    """The share of a map's positive mass in the one of several images side by side that shows the explained class.

    A mosaic of cells x cells images of different classes, each of which the model gives at least ``confidence``, goes
    through the model as one picture, and each class is explained. From 0 to 1; 1/cells² is chance and what any map gets
    that takes no notice of the class; 0 where a map has no positive mass. Models that take one size only refuse, unless
    ``fit`` is "shrink", which makes the mosaic as small as one of its images.
    """
    for mosaic in trial.mosaics(cells, confidence, mosaics):
        x = mosaic.whole if fit == "whole" else _shrunk(mosaic)
        yield _on_whole(trial.plan, mosaic, x)


def _shrunk(mosaic: Mosaic) -> Tensor:
    return F.interpolate(mosaic.whole, size=mosaic.x.shape[2:], mode="bilinear", antialias=True, align_corners=False)


def _on_whole(plan: Plan, mosaic: Mosaic, x: Tensor) -> Measured:
    size = tuple(x.shape[2:])
    if plan.model.input_size not in (None, size):
        raise RefusedError(f"{plan.model.name} takes {_by(plan.model.input_size or ())} only.{_SHRINK}")
    every = range(len(mosaic.classes))
    try:
        found, refused = _explained(replace(plan, targets=list(mosaic.classes)), x)
    except LayerError:
        raise
    except ModelError as error:
        raise RefusedError(f"{plan.model.name} does not take a mosaic of {_by(size)}: {error}{_SHRINK}") from error
    values = {m: shares(_maps(maps, mosaic.classes, x), mosaic.cells, every) for m, maps in found.items()}
    return _measured(plan, mosaic, every, values, refused)


_SHRINK = (
    " difull runs each image by itself; --set grid_pointing_game.fit=shrink makes the mosaic as small as an image."
)


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _measured(
    plan: Plan, mosaic: Mosaic, cells: Sequence[int], values: Mapping[str, Tensor], refused: Mapping[str, str]
) -> Measured:
    """Give each method of the plan its values, NaN where it was refused, so that mosaics stay paired."""
    nothing = torch.full((len(cells),), torch.nan, dtype=torch.float64)
    return Measured(mosaic, cells, {m.name: values.get(m.name, nothing) for m in plan.methods}, refused)


def _maps(found: Mapping[int, Explanation], classes: Sequence[int], x: Tensor) -> Tensor:
    """Return the maps of the classes (K, H, W); nothing for a class whose image was refused."""
    nothing = np.zeros(tuple(x.shape[2:]), np.float32)
    return torch.from_numpy(np.stack([found[c].at_input() if c in found else nothing for c in classes]))


def _explained(plan: Plan, x: Tensor) -> tuple[dict[str, dict[int, Explanation]], dict[str, str]]:
    """Explain one input (1, C, H, W) for each target: {method: {class: explanation}}, and why others were refused."""
    refused: dict[str, str] = {}

    def fail(failure: Failure) -> None:
        if failure.method is None:
            raise failure.error
        refused[failure.method] = str(failure.error)

    sample = Sample(0, 0, x[0], None, None, None, None, x[0].float().cpu().numpy())
    found: dict[str, dict[int, Explanation]] = {}
    for _, e in explain_batch(replace(plan, images=1), [sample], fail):
        found.setdefault(e.method, {})[-1 if e.target.index is None else e.target.index] = e
    return {m: maps for m, maps in found.items() if m not in refused}, refused


@metric(
    family="localization", better="higher", cite="Rao et al. 2022, arXiv:2205.10435, sec. 3.1 (DiFull)", needs="mosaic"
)
def difull(trial: Trial, cells: Side = 2, confidence: Chance = 0.95, mosaics: Count = 50) -> Iterator[Measured]:
    """The share of positive mass in the only cell that the score can see: whatever lies elsewhere is provably false.

    Every image of a mosaic is run by itself, and the scores of the first and the last are explained over the whole
    mosaic; the layer that a CAM reads holds all cells, side by side. From 0 to 1, 1/cells² by chance; 0 where a map has
    no positive mass. Maps of a layer are enlarged without interpolation, which would carry mass over the borders.
    Methods that read a model's inside otherwise (attention, full_grad) refuse: it holds one cell only.
    """
    yield from _cornered(trial.plan, trial.mosaics(cells, confidence, mosaics), _separate)


@metric(
    family="localization", better="higher", cite="Rao et al. 2022, arXiv:2205.10435, sec. 3.1 (DiPart)", needs="mosaic"
)
def dipart(trial: Trial, cells: Side = 2, confidence: Chance = 0.95, mosaics: Count = 50) -> Iterator[Measured]:
    """The share of positive mass in the one cell whose features make the score; the layers before see all of it.

    As difull, but the whole mosaic goes through the model up to the layer that CAMs read, and one cell of that layer
    goes on. A little mass outside is true: receptive fields reach over the borders.
    """
    yield from _cornered(trial.plan, trial.mosaics(cells, confidence, mosaics), _shared)


@dataclass(frozen=True, eq=False)
class _Heads:
    """The plans by which the score of one cell is explained, and the methods that have none."""

    plans: Sequence[Plan]
    refused: Mapping[str, str] = field(default_factory=dict)


_Heading = Callable[[Plan, Mosaic, int], _Heads]
_INSIDE = "it reads the model's inside, which is cut to one cell here; use it by itself, or grid_pointing_game."


def _cornered(plan: Plan, found: Iterator[Mosaic], heading: _Heading) -> Iterator[Measured]:
    heads: dict[int, _Heads] = {}
    for mosaic in found:
        corners = (0, len(mosaic.classes) - 1)
        heads = heads or {cell: heading(_nearest(plan), mosaic, cell) for cell in corners}
        each = [_of_head(heads[cell], mosaic, cell) for cell in corners]
        refused = {m: why for _, reasons in each for m, why in reasons.items()}
        values = {m.name: torch.cat([v[m.name] for v, _ in each]) for m in plan.methods if m.name not in refused}
        yield _measured(plan, mosaic, corners, values, refused)


def _of_head(head: _Heads, mosaic: Mosaic, cell: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    values: dict[str, Tensor] = {}
    refused, x = dict(head.refused), mosaic.whole
    for plan in head.plans:
        found, reasons = _explained(replace(plan, targets=[mosaic.classes[cell]]), x)
        refused |= reasons
        values |= {m: shares(_maps(e, [mosaic.classes[cell]], x), mosaic.cells, [cell]) for m, e in found.items()}
    return values, refused


def _nearest(plan: Plan) -> Plan:
    parameters = {
        m: {**p, **({"upsampling": "nearest"} if "upsampling" in p else {})} for m, p in plan.parameters.items()
    }
    return replace(plan, parameters=parameters)


def _separate(plan: Plan, mosaic: Mosaic, cell: int) -> _Heads:
    inside = {m.name: _INSIDE for m in plan.methods if _reads_inside(m)}
    usual = [m for m in plan.methods if m.name not in inside]
    layered = [m for m in usual if "layer" in m.reads]
    direct = replace(plan, model=alone(plan.model, mosaic.cells, cell), layers=(), methods=_others(usual, layered))
    if not layered:
        return _Heads([direct], inside)
    try:
        cut = _cut(plan, layered, mosaic, cell, stitched)
    except (RefusedError, LayerError) as error:
        return _Heads([direct], inside | {m.name: str(error) for m in layered})
    return _Heads([p for p in (direct, cut) if p.methods], inside)


def _reads_inside(method: Method) -> bool:
    return method.family == "attention" or method.name == "full_grad"


def _others(methods: Sequence[Method], without: Sequence[Method]) -> list[Method]:
    return [m for m in methods if m not in without]


def _shared(plan: Plan, mosaic: Mosaic, cell: int) -> _Heads:
    inside = {m.name: _INSIDE for m in plan.methods if _reads_inside(m)}
    try:
        return _Heads([_cut(plan, [m for m in plan.methods if m.name not in inside], mosaic, cell, pooled)], inside)
    except ModelError as error:
        raise RefusedError(f"{plan.model.name} cannot be cut into cells: {error}") from error


def _cut(plan: Plan, methods: Sequence[Method], mosaic: Mosaic, cell: int, by: Callable[..., Model]) -> Plan:
    if len(plan.layers) > 1:
        raise RefusedError(f"{len(plan.layers)} layers were named; the model is cut at one: give one.")
    layer = plan.layers[0] if plan.layers else plan.model.default_layer(mosaic.x)
    model = by(plan.model, layer, mosaic.cells, cell, mosaic.whole)
    return replace(plan, model=model, methods=methods, layers=(STITCHED,))
