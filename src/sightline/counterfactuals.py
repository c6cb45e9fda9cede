"""Counterfactuals by swapping regions: which parts of another image would have made the model say what it is."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ImageError, ParameterError, RefusedError, TargetError
from sightline.explanation import Prediction
from sightline.geometry import Geometry
from sightline.goals import lead_goal
from sightline.models.load import load
from sightline.models.model import Model
from sightline.output import written
from sightline.plan import Plan, make_plan
from sightline.recording import Recording, record
from sightline.results import predictions_of
from sightline.samples import Failure, Sample, samples
from sightline.targets import Output, Target, TargetName

__all__ = ["Counterfactual", "Swap", "counterfactual"]

_PAIRS = 2500
_SAID = {"logit": "the score", "probability": "the probability", "log_probability": "the log probability"}

Cell = tuple[int, ...]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Swap:
    """A cell of the image that took what a cell of the other image holds; the score then, and by how much it leads."""

    cell: Cell
    other: Cell
    score: float
    lead: float


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """The swaps, in order, that make the model say ``target`` instead of ``source``.

    Cells are (row, column) of the layer's ``grid``. ``start`` is the target's score before the first swap. The images
    are uint8 as they were given; ``boxes`` and ``other_boxes`` are the cells in their pixels.
    """

    source: TargetName
    target: TargetName
    swaps: tuple[Swap, ...]
    start: float
    layer: str
    grid: tuple[int, ...]
    image: np.ndarray
    other_image: np.ndarray
    geometry: Geometry
    other_geometry: Geometry
    predictions: Sequence[Prediction]
    other_predictions: Sequence[Prediction]
    model: str
    output: Output = "log_probability"
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What the score is, in words."""
        return _SAID[self.output]

    def boxes(self) -> list[Box]:
        """Return the swapped cells of the image as (left, top, right, bottom) in its pixels, in the swaps' order."""
        return [_box(swap.cell, self.grid, self.geometry) for swap in self.swaps]

    def other_boxes(self) -> list[Box]:
        """Return the cells of the other image that were taken, in its pixels."""
        return [_box(swap.other, self.grid, self.other_geometry) for swap in self.swaps]

    def render(self) -> Any:
        """Return a PIL card: both images with the numbered cells, the predictions and the score after every swap."""
        from sightline.render.optimized import counterfactual_card

        return counterfactual_card(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images as plain JSON values."""
        return {
            "model": self.model,
            "layer": self.layer,
            "grid": list(self.grid),
            "source": asdict(self.source),
            "target": asdict(self.target),
            "output": self.output,
            "start": self.start,
            "swaps": [asdict(swap) for swap in self.swaps],
            "boxes": [list(box) for box in self.boxes()],
            "other_boxes": [list(box) for box in self.other_boxes()],
            "predictions": [dict(p) for p in self.predictions],
            "other_predictions": [dict(p) for p in self.other_predictions],
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it, by the suffix: .png the card, .json everything but the images.

        Raises ParameterError for another suffix.
        """
        file = Path(path)
        if file.suffix.lower() not in (".png", ".json"):
            raise ParameterError(f"cannot save to '{file.name}': wanted a name that ends in .png or .json.")
        with written(file) as aside:
            if file.suffix.lower() == ".png":
                self.render().save(aside, format="PNG")
            else:
                aside.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return file

    def __repr__(self) -> str:
        return (
            f"<Counterfactual {self.source.label!r} to {self.target.label!r}: {len(self.swaps)} swaps at {self.layer}>"
        )


def _box(cell: Cell, grid: tuple[int, ...], geometry: Geometry) -> Box:
    (row, column), (height, width) = cell, (s / g for s, g in zip(geometry.tensor, grid, strict=True))
    found = geometry.box_to_original((column * width, row * height, (column + 1) * width, (row + 1) * height))
    right, bottom = geometry.original[1], geometry.original[0]
    left, top = max(0.0, found[0]), max(0.0, found[1])
    return left, top, min(right, found[2]), min(bottom, found[3])


def counterfactual(
    model: Model | nn.Module | str,
    image: Any,
    other: Any,
    *,
    target: Target = "top1",
    layer: str | nn.Module | None = None,
    most: int | None = None,
    pairs: int = _PAIRS,
    output: Output = "log_probability",
    seed: int = 0,
    chunk: int | None = None,
    tick: Callable[[int], None] | None = None,
) -> Counterfactual:
    """Swap regions of ``image`` for regions of ``other``, the best pair first, until the model says what ``other`` is.

    As in Goyal et al. 2019, arXiv:1904.07451: at each step the cell of the layer's output that, replaced by a cell of
    the other image's, raises the target's score most; each cell is used once. ``target`` is what the model says of
    ``other``, or another class. ``layer`` is by default the one that CAMs read; ``most`` limits the swaps. All pairs
    of cells are tried, but no more than ``pairs`` at a step: those that the gradient favours.

    Raises RefusedError where the model says the target of ``image`` already, or never comes to say it.
    """
    for name, value in (("most", most), ("pairs", pairs)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ParameterError(f"{name}={value!r}: wanted a whole number of at least 1.")
    plan = _plan(model, target, layer, output, seed, chunk, tick)
    sample, other_sample = (_sample(plan.model, given) for given in (image, other))
    _refuse_other_shape(sample, other_sample)
    with _opened(plan, other_sample, target) as there, _opened(plan, sample, _class_of(there)) as here:
        return _found(plan, _Pair(here, there, sample, other_sample), most, pairs)


def _plan(model: Any, target: Target, layer: Any, output: Output, seed: int, chunk: int | None, tick: Any) -> Plan:
    loaded = model if isinstance(model, Model) else load(model)
    plan = make_plan(
        loaded,
        "activations",
        target,
        contrast=None,
        layer=layer,
        output=output,
        precision="model",
        seed=seed,
        chunk=chunk,
        parameters={},
        tick=tick,
    )
    if len(plan.layers) > 1:
        raise ParameterError(f"counterfactual swaps cells of one layer; {len(plan.layers)} came: {plan.layers}.")
    return plan


def _sample(model: Model, given: Any) -> Sample:
    if isinstance(given, Tensor) and len(given) != 1:
        raise ImageError(f"a tensor of {len(given)} images came; counterfactual takes one image and one other.")

    def fail(failure: Failure) -> None:
        raise failure.error

    found = next(iter(samples(model, given if isinstance(given, Tensor) else [given], fail)))
    if found.pixels is None:
        raise RefusedError(
            f"counterfactual draws pictures of 1, 3 or 4 channels, and {model.name} takes an input of "
            f"{tuple(found.x.shape)}; use a contrast instead: target=contrast(a, b)."
        )
    return found


def _refuse_other_shape(sample: Sample, other: Sample) -> None:
    if sample.x.shape != other.x.shape:
        raise ImageError(
            f"the images become inputs of {tuple(sample.x.shape)} and {tuple(other.x.shape)}; wanted one shape: cut "
            "them alike, or bring them to one size (fit='squash' in load, --fit squash)."
        )


def _opened(plan: Plan, sample: Sample, target: Target) -> Recording:
    x = sample.x.repeat(plan.model.batch or 1, *[1] * sample.x.ndim)
    (layer,) = plan.layers_for(plan.methods[0], x)
    rec = record(plan.model, x, replace(plan.options, layers=(layer,), from_input=False), target)
    return rec.for_layer(layer)


def _class_of(there: Recording) -> int:
    """Return the class that the other image stands for, a number."""
    if there.goal.classes is None:
        raise TargetError(
            f"counterfactual: {there.goal.names[0].label} is no class; give a class that a model can say."
        )
    return int(there.goal.classes[0])


@dataclass(frozen=True, eq=False)
class _Pair:
    here: Recording
    there: Recording
    sample: Sample
    other: Sample


def _found(plan: Plan, pair: _Pair, most: int | None, pairs: int) -> Counterfactual:
    here, there = pair.here, pair.there
    predictions, others = (predictions_of(r.shared.forward, plan.model, 0) for r in (here, there))
    target, source = here.goal.names[0], TargetName(predictions[0]["index"], predictions[0]["label"])
    lead = here.for_target(lead_goal(torch.full((len(here.x),), _class_of(here), device=here.x.device)))
    if float(lead.scores[0]) > 0:
        raise RefusedError(
            f"counterfactual: the model says {target.label} of the image already; give an image of another class, or "
            "another target."
        )
    grid = tuple(here.activation().shape[2:])
    swaps = tuple(itertools.islice(_swaps(here, lead, there.activation()[:1], pairs), most))
    if not swaps[-1].lead > 0:
        raise RefusedError(
            f"counterfactual: after {len(swaps)} swaps at {here.layer} the model does not say {target.label} yet; "
            "allow more of them, or choose another layer or another image of that class."
        )
    return Counterfactual(
        source=source,
        target=target,
        swaps=swaps,
        start=float(here.scores[0]),
        layer=str(here.layer),
        grid=grid,
        image=_pixels(pair.sample),
        other_image=_pixels(pair.other),
        geometry=_geometry(pair.sample),
        other_geometry=_geometry(pair.other),
        predictions=predictions,
        other_predictions=others,
        model=plan.model.name,
        output=plan.options.output,
        notes=tuple(_notes(swaps, grid, source, target, pairs)),
    )


def _pixels(sample: Sample) -> np.ndarray:
    assert sample.pixels is not None  # noqa: S101  refused before
    return sample.pixels


def _geometry(sample: Sample) -> Geometry:
    """Return how the input lies on the picture; a tensor is its own picture."""
    height, width = sample.x.shape[1:]
    return sample.geometry or Geometry.identity((height, width))


def _notes(
    swaps: Sequence[Swap], grid: tuple[int, ...], source: TargetName, target: TargetName, pairs: int
) -> Iterator[str]:
    cells = math.prod(grid)
    yield f"with {len(swaps)} of {cells} cells swapped the model says {target.label} instead of {source.label}"
    if cells * cells > pairs:
        yield f"at each step the {pairs} pairs that the gradient favours were tried, of up to {cells * cells}"


def _swaps(here: Recording, lead: Recording, other: Tensor, pairs: int) -> Iterator[Swap]:
    """Yield the best swaps one after the other, until the target is what the model says or no cell is left."""
    features, giving = here.activation()[:1], other.flatten(2)
    grid, cells = features.shape[2:], giving.shape[2]
    current = features.flatten(2).clone()
    worth = _worth(here, current, giving) if cells * cells > pairs else torch.zeros(cells, cells)
    free, unused = list(range(cells)), list(range(cells))
    while free:
        tried = _tried(worth, free, unused, pairs)
        images = (_with(current, giving, i, j).reshape(1, -1, *grid).expand(len(here.x), -1, *grid) for i, j in tried)
        scores = torch.stack([scores[0] for scores in here.scores_after(images)])
        best = int(scores.argmax())
        i, j = tried[best]
        current = _with(current, giving, i, j)
        (ahead,) = lead.scores_after([current.reshape(1, -1, *grid).expand(len(here.x), -1, *grid)])
        yield Swap(_cell(i, grid), _cell(j, grid), float(scores[best]), float(ahead[0]))
        if float(ahead[0]) > 0:
            return
        free.remove(i)
        unused.remove(j)


def _worth(here: Recording, current: Tensor, giving: Tensor) -> Tensor:
    """Return to first order what each swap brings: gradient(i) . (other(j) - current(i)), (cells, cells)."""
    gradient = here.gradient("layer")[:1].flatten(2)[0]
    return gradient.T @ giving[0] - (gradient * current[0]).sum(0).unsqueeze(1)


def _tried(worth: Tensor, free: list[int], unused: list[int], pairs: int) -> list[tuple[int, int]]:
    """Return the pairs of cells to try, in their order: all, or those of most worth."""
    every = list(itertools.product(free, unused))
    if len(every) <= pairs:
        return every
    values = worth[free][:, unused].flatten()
    return [every[n] for n in sorted(values.argsort(descending=True, stable=True)[:pairs].tolist())]


def _with(current: Tensor, giving: Tensor, i: int, j: int) -> Tensor:
    swapped = current.clone()
    swapped[:, :, i] = giving[:, :, j]
    return swapped


def _cell(index: int, grid: Sequence[int]) -> Cell:
    return tuple(int(i) for i in np.unravel_index(index, tuple(grid)))
