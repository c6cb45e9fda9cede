"""Large pictures, such as slides and satellite scenes: explained tile by tile, and the maps put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sightline.errors import ParameterError, SightlineError
from sightline.explanation import Explanation
from sightline.forward import run_forward
from sightline.goals import probabilities, top_count
from sightline.images import Picture
from sightline.masks import windows
from sightline.methods import Method
from sightline.models.model import Model
from sightline.results import best_classes
from sightline.samples import Failure
from sightline.targets import PerImage, Target

__all__ = ["tiled"]

Place: TypeAlias = tuple[slice, ...]
Explain: TypeAlias = Callable[..., Iterator[tuple[Any, Explanation]]]

_BATCH = 8


@dataclass
class _Stitch:
    """One map of the whole picture, growing tile by tile, each weighted less towards its edges."""

    first: Explanation
    total: np.ndarray
    weight: np.ndarray
    scores: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    signed: bool = False

    def add(self, place: Place, e: Explanation) -> None:
        weights = _tapered(e.heatmap.shape)
        self.total[place] += weights * e.heatmap
        self.weight[place] += weights
        self.scores.append(e.score)
        self.errors += [] if e.standard_error is None else [e.standard_error]
        self.signed |= e.style == "diverging"
        for note in e.notes:
            self.notes[note] = self.notes.get(note, 0) + 1


def _tapered(size: Sequence[int]) -> np.ndarray:
    """Return weights that fall linearly from the middle to the edges, nowhere 0."""
    sides = [np.minimum(np.arange(s) + 0.5, s - np.arange(s) - 0.5) / s for s in size]
    return np.asarray(np.multiply.outer(sides[0], sides[1]))


def tiled(
    explain: Explain,
    model: Model,
    images: Any,
    methods: Sequence[Method],
    target: Target | Sequence[Target],
    tile: int,
    overlap: float,
    fail: Callable[[Failure], None],
) -> Iterator[tuple[Any, Explanation]]:
    """Yield what ``explain(model, tiles, method=, target=, on_failure=)`` gives for each picture's tiles, put together.

    ``tile`` is the side in the picture's pixels, ``overlap`` the share of it that neighbours have in common; each
    whole tile is brought to the model's input size. Classes are those of the mean probability over all tiles.
    Raises ParameterError for sizes that make no tiles.
    """
    _check(model, images, target, tile, overlap)
    whole = replace(model, preprocessing=model.preprocessing.with_fit("squash"))
    for given in images if isinstance(images, (list, tuple)) else [images]:
        try:
            for e in _scene(explain, whole, given, methods, target, tile, overlap, fail):
                yield given, e
        except SightlineError as error:
            fail(Failure(given, None, error))


def _check(model: Model, images: Any, target: Target | Sequence[Target], tile: int, overlap: float) -> None:
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < 8:
        raise ParameterError(f"tile={tile!r}: wanted a whole number of pixels, at least 8.")
    if not 0 <= overlap <= 0.9:
        raise ParameterError(f"overlap={overlap!r}: wanted a share of the tile from 0 to 0.9.")
    if model.input_dims != 2 or isinstance(images, Tensor):
        raise ParameterError("tile= cuts pictures: files, PIL images or arrays (H, W, C); leave it out for others.")
    if isinstance(target, (PerImage, Tensor, np.ndarray)):
        raise ParameterError("tile= takes one target for all tiles of all pictures; explain the pictures one by one.")


def _scene(
    explain: Explain,
    model: Model,
    given: Any,
    methods: Sequence[Method],
    target: Target | Sequence[Target],
    tile: int,
    overlap: float,
    fail: Callable[[Failure], None],
) -> Iterator[Explanation]:
    picture = model.read(given)
    places = windows(picture.size, tile, max(1, round(tile * (1 - overlap))))
    chances = _mean_probabilities(model, [picture.pixels[place] for place in places])
    classes = _classes(target, chances, model)
    failures: dict[str | None, SightlineError] = {}
    found: list[Explanation] = []
    for group, parts in _groups(methods, places, picture):
        pixels = [picture.pixels[place] for place in parts]
        maps = explain(
            model, pixels, method=group, target=classes, on_failure=lambda f: failures.setdefault(f.method, f.error)
        )
        stitches = _stitched(maps, pixels, parts, picture.size)
        asked = {"tile": tile, "overlap": overlap}
        found += [_result(s, model, picture, chances, parts, asked) for s in stitches if s.first.method not in failures]
    if None in failures:
        raise failures[None]
    for method, error in failures.items():
        fail(Failure(given, method, error))
    order = [m.name for m in methods]
    yield from sorted(found, key=lambda e: order.index(e.method))


def _groups(
    methods: Sequence[Method], places: list[Place], picture: Picture
) -> Iterator[tuple[list[str], list[Place]]]:
    """Yield the methods with the places that each is asked about: the tiles, or for controls the whole picture."""
    whole = [tuple(slice(0, side) for side in picture.size)]
    for control, parts in ((False, places), (True, whole)):
        names = [m.name for m in methods if (m.family == "control") == control]
        if names:
            yield names, parts


def _stitched(
    found: Iterator[tuple[Any, Explanation]], tiles: list[np.ndarray], places: list[Place], size: tuple[int, int]
) -> list[_Stitch]:
    """Put the tiles' maps together, method by method and target by target."""
    place_of = {id(tile): place for tile, place in zip(tiles, places, strict=True)}
    growing: dict[tuple[str, str, int], _Stitch] = {}
    seen: Counter[tuple[int, str, str]] = Counter()
    for tile, e in found:
        number = seen[id(tile), e.method, e.target.label]  # a class may have been asked for twice
        seen[id(tile), e.method, e.target.label] += 1
        key = (e.method, e.target.label, number)
        if key not in growing:
            growing[key] = _Stitch(e, np.zeros(size), np.zeros(size))
        growing[key].add(place_of[id(tile)], e)
    return list(growing.values())


@torch.no_grad()
def _mean_probabilities(model: Model, tiles: list[np.ndarray]) -> Tensor:
    """Return the mean over the tiles of the probability of each class (K,)."""
    total: Any = 0
    for start in range(0, len(tiles), model.batch or _BATCH):
        some = tiles[start : start + (model.batch or _BATCH)]
        filled = some + [some[-1]] * ((model.batch or 0) - len(some))
        x = torch.stack([model.prepare(model.read(t))[0] for t in filled])
        total = total + probabilities(run_forward(model.module, x, grad=False))[: len(some)].double().sum(0)
    mean: Tensor = total.cpu() / len(tiles)
    return torch.cat((1 - mean, mean)) if len(mean) == 1 else mean


def _classes(target: Target | Sequence[Target], chances: Tensor, model: Model) -> list[Target]:
    """Replace top-k by the classes of the whole picture, so that every tile is asked about the same."""
    found: list[Target] = []
    for one in target if isinstance(target, (list, tuple)) else (target,):
        k = top_count(one, model.labels)
        found += [one] if k is None else chances.topk(min(k, len(chances))).indices.tolist()
    return found


def _result(
    stitch: _Stitch, model: Model, picture: Picture, chances: Tensor, places: list[Place], asked: dict[str, Any]
) -> Explanation:
    first, scores = stitch.first, np.array(stitch.scores)
    best = places[int(scores.argmax())]
    several = (
        "; score and probabilities are their means; the highest score, "
        f"{scores.max():.4g}, is that of the tile at x={best[1].start}, y={best[0].start}"
    )
    said = f"{len(places)} tiles of {asked['tile']} pixels{several}" if len(places) > 1 else "one tile holds all of it"
    counted = (f"{note} ({n} of {len(places)} tiles)" for note, n in stitch.notes.items())
    about = {"image": picture.name, "image_hash": picture.hash}
    return replace(
        first,
        attribution=(stitch.total / stitch.weight).astype(np.float32),
        score=float(scores.mean()),
        parameters={**first.parameters, **asked},
        predictions=best_classes(model, None, chances),
        input_size=picture.size,
        style="diverging" if stitch.signed else first.style,
        per_channel=False,
        image=picture.pixels,
        geometry=None,
        completeness=None,
        standard_error=float(np.mean(stitch.errors)) if stitch.errors else None,
        provenance={**first.provenance, **about},
        notes=(said, *counted),
    )
