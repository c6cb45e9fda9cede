"""What is explained and by which model, as the visitor chose it, and what the app asks of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from sightline.app.store import store_of
from sightline.engine import explain
from sightline.explanation import Explanation, Prediction
from sightline.methods import METHODS
from sightline.models.model import Model
from sightline.predictions import predict
from sightline.targets import Unit

__all__ = ["Asked", "Chosen", "Given", "Subject", "expected_passes", "explained", "known", "predicted"]


class Given(Protocol):
    """What can be explained: a picture or a series as `explain` takes it, the hash of its content, whose it is."""

    @property
    def image(self) -> Any:
        """What `explain` takes."""

    @property
    def key(self) -> str:
        """The hash of its content."""

    @property
    def private(self) -> bool:
        """Whether a visitor brought it."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture: its pixels, its name to be shown, the hash of its content, and whether a visitor brought it."""

    image: Image.Image
    name: str
    key: str
    private: bool = False


@dataclass(frozen=True, eq=False)
class Chosen:
    """A model under the key of its content, and whether a visitor brought it."""

    model: Model
    key: str
    private: bool = False


@dataclass(frozen=True)
class Asked:
    """What is asked of a picture and a model; equal ones have equal answers."""

    method: str
    target: str | Unit = "top1"
    parameters: tuple[tuple[str, Any], ...] = ()
    layer: str | None = None
    contrast: str | None = None
    output: str = "logit"
    seed: int = 0
    check: bool = False

    def options(self) -> Mapping[str, Any]:
        """Return the keywords of `explain`."""
        return {
            "target": as_target(self.target),
            "layer": self.layer,
            "contrast": as_target(self.contrast) if self.contrast else None,
            "output": self.output,
            "seed": self.seed,
            "check": self.check,
            **dict(self.parameters),
        }


def as_target(said: str | Unit) -> Any:
    """Read a target as the pages write it: a class's index, top1, or a unit of a layer."""
    return int(said) if isinstance(said, str) and said.isdigit() else said


def expected_passes(asked: Asked) -> int | None:
    """Return about how many passes an explanation takes, where a parameter says it: its samples or steps."""
    values = {p.name: p.default for p in METHODS[asked.method].parameters.values()} | dict(asked.parameters)
    found = values.get("samples") or values.get("steps")
    return found if isinstance(found, int) else None


def predicted(chosen: Chosen, subject: Given) -> list[Prediction]:
    """Return the model's best classes for the picture, best first; remembered."""
    store = store_of(private=chosen.private or subject.private)
    key = ("predict", chosen.key, subject.key)
    found: list[Prediction] = store.get(key, lambda: predict(chosen.model, [subject.image])[0], lambda _: 1 << 12)
    return found


def explained(chosen: Chosen, subject: Given, asked: Asked, tick: Callable[[int], None] | None = None) -> Explanation:
    """Return the explanation that is asked for; remembered. Raises what `explain` raises."""
    store = store_of(private=chosen.private or subject.private)

    def make() -> Any:
        return explain(chosen.model, subject.image, asked.method, tick=tick, **asked.options())

    found: Explanation = store.get((chosen.key, subject.key, asked), make, _bytes)
    return found


def known(chosen: Chosen, subject: Given, asked: Asked) -> bool:
    """Say whether the explanation is remembered."""
    return (chosen.key, subject.key, asked) in store_of(private=chosen.private or subject.private)


def _bytes(e: Explanation) -> int:
    arrays = (e.attribution, e.heatmap, e.image, e.signal)
    return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) + (1 << 12)
