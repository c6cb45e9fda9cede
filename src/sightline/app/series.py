"""A series as it is explained, the digit that lies in it, and where its maps lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.app.store import store_of
from sightline.app.subject import Asked, Chosen, explained, predicted
from sightline.demo.mnist1d import Placed, mnist1d_signal
from sightline.demo.templates import fit_template
from sightline.evaluation.measure import measure
from sightline.models.model import Model

__all__ = ["DIGITS", "Series", "drawn_series", "is_of_digits", "placed_digit", "share_on"]

DIGITS = tuple("0123456789")
_LENGTH = 40


@dataclass(frozen=True, eq=False)
class Series:
    """A series: its values as they came, its name to be shown, the hash of its content, whether a visitor brought it.

    Of a drawn one the digit, the seed and where the digit lies are known.
    """

    values: np.ndarray
    name: str
    key: str
    private: bool = False
    seed: int | None = None
    placed: Placed | None = None

    @property
    def image(self) -> Any:
        """What `explain` takes."""
        return self.values


def drawn_series(digit: int, seed: int) -> Series:
    """Draw a series of a digit, always the same."""
    values, placed = mnist1d_signal(digit, seed)
    return Series(values, f"digit {digit}", f"mnist1d {digit} {seed}", seed=seed, placed=placed)


def is_of_digits(model: Model) -> bool:
    """Say whether a model tells the digits of MNIST-1D apart, as far as it says."""
    return model.input_size == (_LENGTH,) and tuple(model.labels) in (DIGITS, ())


def placed_digit(series: Series, digit: int) -> Placed:
    """Return where a digit's template lies in a series, or would: as it was drawn, else where it fits best."""
    if series.placed is None or series.seed is None:
        return fit_template(np.ravel(series.values), digit)
    return series.placed if series.placed.digit == digit else mnist1d_signal(digit, series.seed)[1]


def share_on(chosen: Chosen, series: Series, asked: Asked, placed: Placed) -> float:
    """Return the share of a map's positive part that lies on a digit, NaN where nothing is positive; remembered."""

    def make() -> float:
        e = explained(chosen, series, asked)
        found = measure(chosen.model, e, [series.values], "energy_pointing_game", truth=placed.at[None])
        return float(found["energy_pointing_game"][0])

    key = ("share on", chosen.key, series.key, asked)
    found: float = store_of(private=chosen.private or series.private).get(key, make, lambda _: 1 << 8)
    return found


def explained_class(chosen: Chosen, series: Series, target: str) -> int:
    """Return the index of the class that is explained."""
    return int(target) if target.isdigit() else int(predicted(chosen, series)[0]["index"])
