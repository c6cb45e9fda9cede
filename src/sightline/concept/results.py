"""The frozen results of `concepts` and `tcav`: numbers, what is needed to draw them, and what must be said of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import ParameterError
from sightline.output import written

__all__ = ["Cav", "Concept", "Concepts", "Crop", "Scene", "Tcav"]


@dataclass(frozen=True, eq=False)
class Crop:
    """A crop of an image: its name, its place among those given, the box in the model's input, and how much it holds.

    ``place`` is one (start, end) for each spatial dimension; ``pixels`` uint8 (H, W[, 3]) is the crop as the model sees
    it, None for series and volumes.
    """

    image: str | None
    number: int
    place: tuple[tuple[int, int], ...]
    strength: float
    pixels: np.ndarray | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels as plain JSON values."""
        place = [list(ends) for ends in self.place]
        return {"image": self.image, "number": self.number, "place": place, "strength": self.strength}


@dataclass(frozen=True, eq=False)
class Scene:
    """The image that holds most of a concept, as the model sees it, and where in it the concept lies (*S)."""

    image: str | None
    number: int
    pixels: np.ndarray | None
    heatmap: np.ndarray


@dataclass(frozen=True, eq=False)
class Concept:
    """One concept of a class: a direction (C,) in the layer's channels, and how much the score depends on it.

    ``importance`` is the total Sobol index, mean over the images, ``error`` its standard error over them (None for one
    image); ``effect`` is by how much the score falls, on average, when the concept is taken away: negative where it
    speaks against the class.
    """

    name: str
    importance: float
    error: float | None
    effect: float
    direction: np.ndarray
    crops: Sequence[Crop]
    scene: Scene

    def to_dict(self) -> dict[str, Any]:
        """Return everything but arrays as plain JSON values."""
        numbers = {"importance": self.importance, "standard_error": self.error, "effect": self.effect}
        return {"name": self.name, **numbers, "crops": [c.to_dict() for c in self.crops]}


@dataclass(frozen=True, eq=False)
class Concepts:
    """The concepts of a class, the most important first.

    ``gap`` is the share of the crops' activations that the concepts do not hold, |A - U W| / |A|; ``score`` is the
    images' mean score and ``rebuilt`` what it is when the layer holds nothing but the concepts. ``hits`` is of how
    many images the target is the best class, None where it is no class.
    """

    concepts: Sequence[Concept]
    target: str
    layer: str
    images: int
    crops: int
    gap: float
    score: float
    rebuilt: float
    hits: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def maps(self, model: Any, images: Any) -> list[np.ndarray]:
        """Return where each concept lies in each image: (concepts, *S) on its pixels, NaN where it was not seen.

        ``model`` and ``images`` are what `concepts` takes. Raises what it raises.
        """
        from sightline.concept.craft import concept_maps

        return concept_maps(self, model, images)

    def render(self) -> Any:
        """Return the contact sheet as a PIL picture: a row for each concept, with its importance and best crops."""
        from sightline.render.concepts import contact_sheet

        return contact_sheet(self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{c.importance:.2f}" for c in self.concepts)
        return f"<Concepts of {self.target!r}, layer={self.layer!r}: importance {shown}>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but arrays as plain JSON values."""
        return {
            "target": self.target,
            "layer": self.layer,
            "images": self.images,
            "crops": self.crops,
            "called_target": self.hits,
            "gap": self.gap,
            "score": self.score,
            "rebuilt": self.rebuilt,
            "concepts": [c.to_dict() for c in self.concepts],
            "parameters": dict(self.parameters),
            "provenance": dict(self.provenance),
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the contact sheet (.png), the numbers (.json) or the numbers with the directions (.npz)."""
        return _saved(self, path, {"directions": np.stack([c.direction for c in self.concepts])})


@dataclass(frozen=True, eq=False)
class Cav:
    """How a class depends on one concept: the TCAV score of each run, and whether it can be believed.

    ``score`` is the share of the class's images whose score rises along the concept's direction, mean of ``scores``;
    ``error`` is their standard deviation. ``p_value`` is that of Welch's two-sided t-test against random directions,
    times the number of concepts. ``accuracy`` is how often the classifier told held-out images of the concept from
    others, ``chance`` how likely one that guesses would have been as good: above 0.05 the concept is not
    ``represented`` at this layer, and its score says nothing. ``sensitivity`` is the mean cosine between the gradient
    and the direction (*,), which is the mean of the runs' directions.
    """

    name: str
    images: int
    scores: Sequence[float]
    accuracy: float
    chance: float
    sensitivity: float
    p_value: float
    direction: np.ndarray

    @property
    def score(self) -> float:
        """The mean TCAV score of the runs."""
        return float(np.mean(self.scores))

    @property
    def error(self) -> float:
        """The standard deviation of the runs' scores."""
        return float(np.std(self.scores, ddof=1))

    @property
    def represented(self) -> bool:
        """Whether a linear classifier finds the concept in held-out images."""
        return self.chance <= 0.05

    @property
    def significant(self) -> bool:
        """Whether the concept is represented and its score differs from that of random directions."""
        return self.represented and self.p_value <= 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the direction as plain JSON values."""
        names = ("name", "images", "score", "error", "p_value", "significant", "accuracy", "chance", "represented")
        return {k: getattr(self, k) for k in (*names, "sensitivity")} | {"scores": list(self.scores)}


@dataclass(frozen=True, eq=False)
class Tcav:
    """How a class depends on concepts: their scores in the order in which they came, and that of random directions.

    ``hits`` is of how many of the class's images the target is the best class, None where it is no class.
    """

    concepts: Sequence[Cav]
    random: Cav
    target: str
    layer: str
    images: int
    hits: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def render(self) -> Any:
        """Return the bar chart as a PIL picture."""
        from sightline.render.concepts import tcav_chart

        return tcav_chart(self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{c.name} {c.score:.2f}{'' if c.significant else ' (n.s.)'}" for c in self.concepts)
        return f"<Tcav of {self.target!r}, layer={self.layer!r}: {shown}>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but arrays as plain JSON values."""
        return {
            "target": self.target,
            "layer": self.layer,
            "images": self.images,
            "called_target": self.hits,
            "concepts": [c.to_dict() for c in self.concepts],
            "random": self.random.to_dict(),
            "parameters": dict(self.parameters),
            "provenance": dict(self.provenance),
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the chart (.png), the numbers (.json) or the numbers with the directions (.npz)."""
        return _saved(self, path, {"directions": np.stack([c.direction for c in self.concepts])})


def _saved(found: Concepts | Tcav, path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> Path:
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in (".png", ".json", ".npz"):
        raise ParameterError(f"cannot save to '{file.name}': wanted a name that ends in .png, .json or .npz.")
    with written(file) as aside:
        if suffix == ".png":
            found.render().save(aside, format="PNG")
        elif suffix == ".json":
            aside.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
        else:
            np.savez_compressed(aside, about=np.array(json.dumps(found.to_dict())), **arrays)  # type: ignore[arg-type]
    return file
