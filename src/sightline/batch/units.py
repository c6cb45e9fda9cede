"""How a run is cut: units of neighbouring images, each explained in batches of its own, whatever ran before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sightline.batch.done import Done
from sightline.batch.sources import Item

__all__ = ["Outcome", "Unit", "units_of"]


@dataclass(frozen=True)
class Unit:
    """Neighbouring items that lack the same asks.

    Units begin where the last one ended, also after an interruption, so that a batch is made of the same images
    whether or not a run was broken off: to the last bit, rows depend on their batch.
    """

    items: list[Item]
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a unit: its items, each with its content's hash (None where it could not be decoded), and rows."""

    unit: Unit
    contents: list[str | None]
    rows: list[dict[str, Any]]


def units_of(items: Iterable[Item], size: int, done: Done) -> Iterator[Unit]:
    """Cut what is not done yet into units of at most ``size`` items."""
    held: list[Item] = []
    asks: tuple[str, ...] = ()
    for item in items:
        missing = done.missing(item)
        if not missing:
            continue
        if held and (missing != asks or len(held) == size):
            yield Unit(held, asks)
            held = []
        held, asks = [*held, item], missing
    if held:
        yield Unit(held, asks)
