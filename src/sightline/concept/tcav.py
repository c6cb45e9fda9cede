"""Does a class depend on a concept that a user has pictures of? Directional derivatives, and tests (TCAV)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sightline.concept.cav import Fitted, Floats, chance_of, difference_p, drawn, fitted, halves
from sightline.concept.reading import Asked, Study, begun, whole
from sightline.concept.results import Cav, Tcav
from sightline.concept.sets import Sets, read_sets
from sightline.errors import ParameterError
from sightline.forward import Precision
from sightline.models.layers import Layer
from sightline.models.model import Model
from sightline.samples import Failure, Sample
from sightline.targets import Output, Target

__all__ = ["tcav"]

Positions = Literal["mean", "flat"]

_SMALL = 30
_ALIKE = 1e-3
_LOOKED_AT = 16


def tcav(
    model: Model | nn.Module | str,
    images: Any,
    concepts: Mapping[str, Any],
    *,
    target: Target,
    random: Any = None,
    layer: str | nn.Module | None = None,
    runs: int = 30,
    positions: Positions = "mean",
    output: Output = "logit",
    precision: Precision | torch.dtype = "model",
    seed: int = 0,
    batch_size: int = 32,
    on_failure: Callable[[Failure], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Tcav:
    """Test whether a class depends on concepts that are given by pictures (Kim et al. 2018, arXiv:1711.11279).

    A linear classifier tells a concept's activations at the layer from those of random images; its normal v is the
    concept's direction. TCAV score: the share of the class's ``images`` with grad(score) · v > 0. Each of the ``runs``
    draws other random images and holds out a third of all; Welch's two-sided t-test compares its scores with those of
    directions between two random sets, and is corrected for the number of concepts (Bonferroni).

    ``images`` are of the class ``target``; ``concepts`` maps names to folders, or to whatever `explain` takes as
    images. ``random`` are images of anything else; without, each concept is told from all others (relative CAVs).
    ``positions`` "mean" averages activations over positions, "flat" takes each position by itself, as the paper does.
    The default layer is the deepest one where the class's images differ in their gradients.

    Raises ImageError, InputError, TargetError, ParameterError, LayerError, ModelError or RefusedError.
    """
    whole("runs", runs, 2)
    if positions not in get_args(Positions):
        raise ParameterError(f"positions={positions!r}: wanted mean or flat.")
    study = begun(model, images, target, Asked(layer, output, precision, seed, batch_size, on_failure, tick))
    sets = read_sets(study, concepts, random)
    study = study if study.layer else replace(study, layer=_usual_layer(study))
    gradients = _gradients(study, study.images, positions)
    found = _tested(sets.read(lambda images: _activations(study, images, positions)), gradients, runs, study)
    result = replace(
        found,
        hits=study.hits,
        parameters={"runs": runs, "positions": positions, "random": None if sets.random is None else len(sets.random)},
        provenance=study.provenance(),
    )
    return replace(result, notes=(*sets.notes, *_notes(result, gradients)))


def _activations(study: Study, images: list[Sample], positions: Positions) -> Floats:
    """Return the layer's activations (images, C), mean over positions, or (images, C x positions)."""
    found = []
    for rec, rows in study.recordings(s.x for s in images):
        a = rec.activation()[:rows].double().cpu()
        found.append(a.flatten(2).mean(2) if positions == "mean" else a.flatten(1))
    return _joined(found)


def _gradients(study: Study, images: list[Sample], positions: Positions) -> Floats:
    """Return d score / d layer along the same axes: summed over positions, where activations are averaged."""
    found = []
    for rec, rows in study.recordings(s.x for s in images):
        g = rec.gradient("layer")[:rows].double().cpu()
        found.append(g.flatten(2).sum(2) if positions == "mean" else g.flatten(1))
    return _joined(found)


def _joined(found: list[Tensor]) -> Floats:
    if len({f.shape[1] for f in found}) > 1:
        raise ParameterError(
            "positions='flat' needs images of one size; give positions='mean', or a preprocessing with a fixed size."
        )
    joined: Floats = torch.cat(found).numpy()
    return joined


def _usual_layer(study: Study) -> str:
    """Return the layer that CAMs read, or where all images have the same gradient there, one with a larger map.

    Before a linear head a score could only be 0 or 1, whatever the concept.
    """
    x = study.images[0].x[None]
    default = study.model.default_layer(x)
    for name in (default, *_larger(study.model.layers(x), default)):
        if not _is_alike(_gradients(replace(study, layer=name), study.images[:_LOOKED_AT], "mean")):
            return name
    return default


def _larger(layers: tuple[Layer, ...], default: str) -> list[str]:
    """Return for each larger map size the last of the outermost layers that have it, the smallest maps first."""
    before = layers[: next(i for i, e in enumerate(layers) if e.name == default)]
    own = next(e.spatial for e in layers if e.name == default)
    sizes = dict.fromkeys(e.spatial for e in reversed(before) if e.spatial and own and e.spatial > own)
    return [_outermost([e for e in before if e.spatial == size]) for size in sizes]


def _outermost(layers: list[Layer]) -> str:
    least = min(e.name.count(".") for e in layers)
    return [e.name for e in layers if e.name.count(".") == least][-1]


def _is_alike(gradients: Floats) -> bool:
    """Say whether all gradients point the same way."""
    unit = _unit(gradients)
    return bool(((unit @ unit[0]) > 1 - _ALIKE).all())


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def _tested(sets: Sets, gradients: Floats, runs: int, study: Study) -> Tcav:
    seed = study.options.seed
    least = 0.5 / len(gradients)  # half an image: scores of a few images may well be all the same
    control = _cav("random", len(sets.pool), [_random_fit(sets.pool, seed, run) for run in range(runs)], gradients)
    found = []
    for name, own in sets.concepts.items():
        fits = [_fit(own, sets.others(name), seed, run) for run in range(runs)]
        cav = _cav(name, len(own), fits, gradients)
        p = difference_p(list(cav.scores), list(control.scores), least)
        found.append(replace(cav, p_value=min(1.0, p * len(sets.concepts))))
    return Tcav(found, control, study.label, study.layer, len(gradients), None)


def _fit(own: Floats, others: Floats, seed: int, run: int) -> Fitted:
    """Tell a concept from others in as many images of each; a third of the others changes from run to run."""
    size = min(len(own), 2 * len(others) // 3)
    return fitted(own, others, drawn(len(own), size, seed, run), drawn(len(others), size, seed, run))


def _random_fit(pool: Floats, seed: int, run: int) -> Fitted:
    """Tell one random set from another; each second run is the one before turned round, for neither is the concept."""
    first, second = halves(len(pool), len(pool) // 2, seed, run // 2)
    return fitted(pool, pool, first, second) if run % 2 == 0 else fitted(pool, pool, second, first)


def _cav(name: str, images: int, fits: list[Fitted], gradients: Floats) -> Cav:
    directions = np.stack([f.direction for f in fits])
    mean = _unit(directions.mean(0, keepdims=True))[0]
    return Cav(
        name=name,
        images=images,
        scores=[float(s) for s in ((gradients @ directions.T) > 0).mean(0)],
        accuracy=float(np.mean([f.right / f.asked for f in fits])),
        chance=chance_of(fits),
        sensitivity=float((_unit(gradients) @ directions.T).mean()),
        p_value=1.0,
        direction=mean.astype(np.float32),
    )


def _notes(found: Tcav, gradients: Floats) -> list[str]:
    notes = []
    if _is_alike(gradients):
        notes.append(
            f"all images have the same gradient at '{found.layer}', so a score can only be 0 or 1 there: "
            "choose an earlier layer"
        )
    if flat := int((~gradients.any(1)).sum()):
        notes.append(f"the gradient is 0 for {flat} of {found.images} images: they count as not raised")
    if found.hits is not None and found.hits < found.images / 2:
        notes.append(f"the model calls only {found.hits} of {found.images} images '{found.target}'")
    few = [c.name for c in found.concepts if c.images < _SMALL] + ["the class"] * (found.images < _SMALL)
    if few:
        notes.append(f"fewer than {_SMALL} images of {', '.join(few)}: scores of so few move a lot")
    return notes + [text for c in found.concepts if (text := _doubt(c, found.layer))]


def _doubt(c: Cav, layer: str) -> str:
    if not c.represented:
        return (
            f"'{c.name}' is not represented at '{layer}': held-out images are told right {c.accuracy:.0%} of the time "
            f"(guessing would be as good with p = {c.chance:.2g}), so its score says nothing"
        )
    return "" if c.significant else f"the score of '{c.name}' does not differ from random ones (p = {c.p_value:.2g})"
