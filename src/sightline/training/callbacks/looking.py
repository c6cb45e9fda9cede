"""One look at one image: what the model says, and what each method makes of it, or why it makes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.engine import explanations
from sightline.errors import RefusedError, SightlineError
from sightline.explanation import Explanation
from sightline.forward import Forward
from sightline.goals import probabilities
from sightline.models.model import Model
from sightline.predictions import forwards
from sightline.samples import Failure
from sightline.targets import Output, Target

__all__ = ["Look", "Question", "Report", "look"]

Report = Callable[[str, Exception], None]
"""Is told of each method that failed, and why."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every image at every look; ``parameters`` are {"method.name": value}."""

    methods: tuple[str, ...]
    parameters: Mapping[str, Any]
    layer: Any
    output: Output
    seed: int


@dataclass(frozen=True, eq=False)
class Look:
    """What came out for one image.

    ``says`` is the predicted class and its probability, ``explained`` the explained one with its own; None where
    there is none. ``maps`` holds the explanation of each method, ``reasons`` why there is none.
    """

    says: tuple[str, float] | None
    explained: tuple[str, float | None] | None
    maps: Mapping[str, Explanation]
    reasons: Mapping[str, str]


def look(model: Model, image: Any, target: Target, question: Question, report: Report, *, strict: bool) -> Look:
    """Explain one image by all methods; what fails is reported, and the other methods are still done.

    With ``strict`` what can never work is raised: a target or layer that is not there, an image that does not fit.
    Refusals, and weights that hold NaN, are reported always.
    """
    maps, failed = _explained(model, image, target, question.methods, question)
    if strict:
        _raise_hopeless(model, failed)
    for method, error in failed.items():
        report(method, error)
    chances = _chances(model, image, failed)
    first = next(iter(maps.values()), None)
    reasons = {method: _why(error) for method, error in failed.items()}
    return Look(_best(model, chances), _of_target(model, first, chances), maps, reasons)


Failures = dict[str, Exception]


def _explained(
    model: Model, image: Any, target: Target, methods: Sequence[str], question: Question
) -> tuple[dict[str, Explanation], Failures]:
    failed: Failures = {}

    def on_failure(failure: Failure) -> None:
        failed.update(dict.fromkeys([failure.method] if failure.method else methods, failure.error))

    asked = _asked_of(methods, question.parameters)
    try:
        found = explanations(
            model,
            image if isinstance(image, Tensor) else [image],
            list(methods),
            target,
            layer=question.layer,
            output=question.output,
            seed=question.seed,
            parameters=asked,
            on_failure=on_failure,
        )
        return {e.method: e for _, e in found}, failed
    except Exception as error:  # noqa: BLE001  a method of the user's own raises anything, and the training goes on
        if len(methods) == 1:
            return {}, {methods[0]: error}
    each = [_explained(model, image, target, (one,), question) for one in methods]
    return {k: v for maps, _ in each for k, v in maps.items()}, {k: v for _, bad in each for k, v in bad.items()}


def _asked_of(methods: Sequence[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of some of the methods, which were resolved before: {"method.name": value}."""
    return {key: value for key, value in parameters.items() if key.partition(".")[0] in methods}


def _raise_hopeless(model: Model, failed: Failures) -> None:
    for error in failed.values():
        if not isinstance(error, RefusedError) and not model.broken_weights:
            raise error


def _why(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return f"refused: {error}"
    return str(error) if isinstance(error, SightlineError) else f"{type(error).__name__}: {error}"


def _chances(model: Model, image: Any, failed: Failures) -> Tensor | None:
    """Return the probability of each class (K,), or None where the pass itself fails, which the methods said."""
    try:
        given = image if isinstance(image, Tensor) else [image]
        forward = next(f for _, f in forwards(model, given, _raise))
    except SightlineError:
        if not failed:
            raise
        return None
    chances = _two_sided(forward)
    return chances if bool(torch.isfinite(chances).all()) else None


def _raise(failure: Failure) -> None:
    raise failure.error


def _two_sided(forward: Forward) -> Tensor:
    chances = probabilities(forward)[0].cpu()
    return torch.cat((1 - chances, chances)) if len(chances) == 1 else chances


def _best(model: Model, chances: Tensor | None) -> tuple[str, float] | None:
    if chances is None:
        return None
    best = int(chances.argmax())
    return model.labels.name(best), float(chances[best])


def _of_target(model: Model, e: Explanation | None, chances: Tensor | None) -> tuple[str, float | None] | None:
    if e is None or chances is None:
        return None
    index = e.target.index
    is_class = index is not None and index < len(chances) and model.labels.name(index) == e.target.label
    chance = float(chances[index]) if index is not None and is_class else math.nan
    return e.target.label, None if math.isnan(chance) else chance
