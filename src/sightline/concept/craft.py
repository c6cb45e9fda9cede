"""The concepts of a class, found in its own images: crops factorised, importance by Sobol indices (CRAFT)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.concept.factorize import encode, factorize
from sightline.concept.reading import Asked, Study, begun, whole
from sightline.concept.results import Concept, Concepts, Crop, Scene
from sightline.errors import ParameterError, RefusedError
from sightline.forward import Precision
from sightline.geometry import restore
from sightline.heatmap import resize
from sightline.masks import SMOOTH, Place, windows
from sightline.models.model import Model
from sightline.recording import Recording
from sightline.render.photo import shown_channels
from sightline.samples import Failure, Sample
from sightline.sobol import design, total_indices
from sightline.targets import Output, Target

Crops = Literal["resized", "in_place"]

__all__ = ["concept_maps", "concepts"]

_CROPS_EACH = 5
_FEW_IMAGES = 10
_ROUNDING = 1e-6
_FAR = 0.2


def concepts(
    model: Model | nn.Module | str,
    images: Any,
    *,
    target: Target = "top1",
    layer: str | nn.Module | None = None,
    count: int = 10,
    crops: Crops = "in_place",
    window: float = 0.3,
    stride: float = 0.24,
    samples: int = 32,
    examples: int = 8,
    rectify: bool = False,
    output: Output = "logit",
    precision: Precision | torch.dtype = "model",
    seed: int = 0,
    batch_size: int = 32,
    on_failure: Callable[[Failure], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Concepts:
    """Find the concepts that a model makes a class of, in images of that class (Fel et al. 2023, arXiv:2211.10154).

    Crops of the images give activations A >= 0 at the layer, averaged over positions; these are factorised as
    A = U W, all of 0 or more: the rows of W are the concepts. The importance of a concept is the total Sobol index of
    the score of (M * U) W under random masks M of the concepts, mean over the images.

    ``images`` are a folder, or what `explain` takes; ``target`` "top1" is the class that most of them are said to be.
    ``crops`` "in_place" reads the layer of the whole image where the crop lies; "resized" makes each crop an image of
    its own, as the paper does. ``window`` and ``stride`` are theirs, shares of each side where below 1. The default
    layer is the one that CAMs read. A layer with negative activations is refused, unless ``rectify`` cuts them off.
    ``samples`` are the masks for each index, ``examples`` the crops shown. Nothing is random but the masks.

    Raises ImageError, TargetError, ParameterError, LayerError, ModelError or RefusedError; each says what to do.
    """
    _check(crops, count, samples, examples)
    study = begun(model, images, target, Asked(layer, output, precision, seed, batch_size, on_failure, tick))
    study = study if study.layer else replace(study, layer=study.model.default_layer(study.images[0].x[None]))
    cut = _cut(study, count, window, stride)
    a = _resized(study, cut, rectify) if crops == "resized" else _in_place(study, cut, rectify)
    _refuse_empty(a, count, study.layer)
    u, w = factorize(a, count)
    weighed = _weighed(study, w, samples, rectify)
    settings = {
        "count": count,
        "crops": crops,
        "window": window,
        "stride": stride,
        "samples": samples,
        "rectify": rectify,
    }
    order = weighed.indices.mean(1).argsort(descending=True, stable=True).tolist()
    found = Concepts(
        concepts=[
            _concept(study, f"concept {n}", k, weighed, w[k], _best(study, cut, u[:, k], examples))
            for n, k in enumerate(order, 1)
        ],
        target=study.label,
        layer=study.layer,
        images=len(study.images),
        crops=len(cut),
        gap=float((a - u @ w).norm() / a.norm()),
        score=float(weighed.scores.mean()),
        rebuilt=float(weighed.rebuilt.mean()),
        hits=study.hits,
        parameters=settings,
        provenance=study.provenance(),
    )
    return replace(found, notes=_notes(found))


def _check(crops: str, count: int, samples: int, examples: int) -> None:
    for name, value, low in (("count", count, 1), ("samples", samples, 2), ("examples", examples, 1)):
        whole(name, value, low)
    if crops not in get_args(Crops):
        raise ParameterError(f"crops={crops!r}: wanted in_place or resized.")


def _refuse_empty(a: Tensor, count: int, layer: str) -> None:
    if not a.any():
        raise RefusedError(f"layer '{layer}' is 0 for every crop; choose another (sightline layers MODEL).")
    if count > a.shape[1]:
        raise ParameterError(f"count={count} concepts at '{layer}', which has {a.shape[1]} channels; give fewer.")


def _cut(study: Study, count: int, window: float, stride: float) -> list[tuple[int, Place]]:
    """Return the crops, each as the number of its image and its place in it."""
    sizes = [tuple(s.x.shape[1:]) for s in study.images]
    found = [(i, place) for i, size in enumerate(sizes) for place in windows(size, window, stride)]
    if len(found) < _CROPS_EACH * count:
        raise ParameterError(
            f"{len(sizes)} images give {len(found)} crops for count={count}; wanted at least {_CROPS_EACH} crops a "
            "concept: give more images, fewer concepts, or a smaller window and stride."
        )
    return found


def _enlarged(x: Tensor, place: Place) -> Tensor:
    """Resize a crop of an image (C, *S) to all of the image's size."""
    mode = SMOOTH[x.ndim - 1]
    return F.interpolate(x[(slice(None), *place)][None], size=x.shape[1:], mode=mode, align_corners=False)[0]


def _resized(study: Study, cut: list[tuple[int, Place]], rectify: bool) -> Tensor:
    """Return the layer's activations for crops, each resized to an image, averaged over positions: (crops, C)."""
    enlarged = (_enlarged(study.images[i].x, place) for i, place in cut)
    found = [_read(rec, rectify)[:rows].flatten(2).mean(2) for rec, rows in study.recordings(enlarged)]
    return torch.cat(found).double().cpu()


def _in_place(study: Study, cut: list[tuple[int, Place]], rectify: bool) -> Tensor:
    """Return the layer's activations for the images, averaged over the positions of each crop: (crops, C)."""
    places = dict[int, list[Place]]()
    for i, place in cut:
        places.setdefault(i, []).append(place)
    numbers, found = iter(places), []
    for rec, rows in study.recordings(s.x for s in study.images):
        for values in _read(rec, rectify)[:rows].double().cpu():
            shares = torch.stack([_share(p, rec.x.shape[2:], values.shape[1:]) for p in places[next(numbers)]])
            found.append(shares.flatten(1) @ values.flatten(1).T)
    return torch.cat(found)


def _share(place: Place, size: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Return the share of a crop of an input of ``size`` that lies in each cell of a layer's grid: it sums to 1."""
    shares = torch.ones((), dtype=torch.float64)
    for part, side, cells in zip(place, size, grid, strict=True):
        edges = torch.arange(cells + 1, dtype=torch.float64) * side / cells
        shares = shares.unsqueeze(-1) * edges.clamp(part.start, part.stop).diff() / (part.stop - part.start)
    return shares


def _read(rec: Recording, rectify: bool) -> Tensor:
    a = rec.activation()
    if not rectify and float(a.min()) < -_ROUNDING * float(a.abs().max()):
        raise RefusedError(
            f"concepts need activations of 0 or more, and {float((a < 0).double().mean()):.0%} of those of "
            f"'{rec.layer}' are negative; {_alternative(rec)}."
        )
    return a.clamp(min=0)


def _alternative(rec: Recording) -> str:
    cut = "cut them off with rectify=True (--rectify)"
    positive = [e.name for e in rec.model.layers(rec.x[:1]) if e.spatial and e.kind in ("ReLU", "ReLU6")]
    return f"choose a layer after a ReLU, such as layer='{positive[-1]}', or {cut}" if positive else cut


@dataclass(frozen=True, eq=False)
class _Weighed:
    """What the score makes of the concepts: total indices and effects (R, N), scores (N,), maps (R, *S) an image."""

    indices: Tensor
    effects: Tensor
    scores: Tensor
    rebuilt: Tensor
    maps: list[Tensor]


def _weighed(study: Study, w: Tensor, samples: int, rectify: bool) -> _Weighed:
    levels = design(len(w), samples, study.options.seed)
    masks = torch.cat((torch.ones(1, len(w)), 1 - torch.eye(len(w)), levels)).double()
    parts, maps = [], list[Tensor]()
    for rec, rows in study.recordings(s.x for s in study.images):
        u = _spread(_read(rec, rectify), w)
        rebuilt = torch.stack([s.double().cpu() for s in rec.scores_after(_rebuilt(rec, u, w, m) for m in masks)])
        parts.append(torch.cat((rec.scores.double().cpu()[None], rebuilt))[:, :rows])
        maps += list(u[:rows])
    scores = torch.cat(parts, 1)
    kept, without, drawn = scores[1], scores[2 : 2 + len(w)], scores[2 + len(w) :]
    return _Weighed(total_indices(drawn, samples), kept - without, scores[0], kept, maps)


def _spread(a: Tensor, w: Tensor) -> Tensor:
    """Return how much of each concept is at each position: (N, R, *S) for activations (N, C, *S)."""
    positions = a.double().cpu().movedim(1, -1)
    u = encode(positions.flatten(0, -2), w)
    return u.reshape(*positions.shape[:-1], len(w)).movedim(-1, 1)


def _rebuilt(rec: Recording, u: Tensor, w: Tensor, mask: Tensor) -> Tensor:
    """Return the activations (N, C, *S) that the concepts give, each at its level of the mask (R,)."""
    return torch.einsum("nr...,rc->nc...", u, mask.unsqueeze(1) * w).to(rec.activation())


def _concept(study: Study, name: str, k: int, weighed: _Weighed, direction: Tensor, crops: list[Crop]) -> Concept:
    indices = weighed.indices[k]
    spread = float(indices.std()) / math.sqrt(len(indices)) if len(indices) > 1 else None
    return Concept(
        name=name,
        importance=float(indices.mean()),
        error=spread,
        effect=float(weighed.effects[k].mean()),
        direction=direction.numpy().astype(np.float32),
        crops=crops,
        scene=_scene(study, [m[k] for m in weighed.maps]),
    )


def _best(study: Study, cut: list[tuple[int, Place]], strengths: Tensor, most: int) -> list[Crop]:
    """Return the strongest crop of each of the images that hold the most: neighbouring crops show the same."""
    order = strengths.argsort(descending=True, stable=True).tolist()
    first = dict[int, int]()
    for n in order:
        first.setdefault(cut[n][0], n)
    return [_crop(study, *cut[n], float(strengths[n])) for n in list(first.values())[:most]]


def _crop(study: Study, number: int, place: Place, strength: float) -> Crop:
    sample = study.images[number]
    pixels = _seen(study, sample)
    ends = tuple((s.start, s.stop) for s in place)
    return Crop(_name(sample), sample.number, ends, strength, None if pixels is None else pixels[place])


def _name(sample: Sample) -> str | None:
    return str(sample.given) if sample.name is not None else None


def _seen(study: Study, sample: Sample) -> np.ndarray | None:
    """Return an image as the model sees it, uint8 (H, W[, 3]), or None where it is no picture."""
    x = sample.x.float().cpu()
    if x.ndim != 3:
        return None
    known = len(x) == study.model.preprocessing.channels and len(x) in (1, 3, 4)
    return restore(x, study.model.preprocessing) if known else shown_channels(x.numpy())


def _scene(study: Study, maps: list[Tensor]) -> Scene:
    """Return the image with most of a concept, of the maps (*S of the layer) of all images."""
    most = max(range(len(maps)), key=lambda n: float(maps[n].mean()))
    sample = study.images[most]
    heatmap = resize(maps[most][None], sample.x.shape[1:])[0].float().numpy()
    return Scene(_name(sample), sample.number, _seen(study, sample), heatmap)


def _notes(found: Concepts) -> tuple[str, ...]:
    notes = []
    if found.images < _FEW_IMAGES:
        notes.append(f"only {found.images} images: concepts of so few change with the next; give 30 or more")
    if found.hits is not None and found.hits < found.images / 2:
        notes.append(f"the model calls only {found.hits} of {found.images} images '{found.target}'")
    if abs(found.rebuilt - found.score) > _FAR * abs(found.score):
        notes.append(
            f"the concepts alone give a mean score of {found.rebuilt:.3g} for one of {found.score:.3g}: what they "
            "leave out matters too; a larger count leaves out less"
        )
    return tuple(notes)


def concept_maps(found: Concepts, model: Model | nn.Module | str, images: Any) -> list[np.ndarray]:
    """Return where each concept lies in each image: (concepts, *S) on its pixels, NaN where it was not seen."""
    options: Mapping[str, Any] = found.provenance
    asked = Asked(found.layer, output=options["output"], precision=options["precision"])
    study = begun(model, images, "top1", asked, each_once=False)
    w = torch.from_numpy(np.stack([c.direction for c in found.concepts])).double()
    rectify = bool(found.parameters["rectify"])
    spread = chain.from_iterable(
        _spread(_read(rec, rectify), w)[:rows] for rec, rows in study.recordings(s.x for s in study.images)
    )
    return [_on_pixels(u, sample) for u, sample in zip(spread, study.images, strict=True)]


def _on_pixels(u: Tensor, sample: Sample) -> np.ndarray:
    values: np.ndarray = resize(u, sample.x.shape[1:]).float().numpy()
    return values if sample.geometry is None else sample.geometry.to_original(values)
