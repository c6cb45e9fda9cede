"""What is tried with a map: another one by a shuffled model, a curve step by step; all of it remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sightline.app.store import store_of
from sightline.app.subject import Asked, Chosen, Subject, explained
from sightline.evaluation.metrics.randomization import Order
from sightline.evaluation.shuffling import Shuffled, shuffled
from sightline.evaluation.stepwise import Direction, Stepwise, stepwise
from sightline.points import BaselineName

__all__ = ["Curve", "Shuffle", "ShuffledMap", "Similarity", "is_tried", "tried"]

T = TypeVar("T")
Tick = Callable[[int], None] | None


class Trial(Protocol[T]):
    """Something that is tried with a picture and a model; equal ones give equal results."""

    def __call__(self, chosen: Chosen, subject: Subject, tick: Tick) -> T:
        """Try it."""

    def size(self, made: T, /) -> int:
        """Return about how many bytes a result holds."""


@dataclass(frozen=True)
class Shuffle:
    """Which layers of a model are shuffled, counted from the output, and by which seed."""

    count: int
    order: Order = "cascading"
    seed: int = 0

    def of(self, chosen: Chosen, subject: Subject, asked: Asked, tick: Tick) -> Shuffled:
        """Return the map of the model that is shuffled so."""
        e = explained(chosen, subject, asked, tick)
        return shuffled(chosen.model, e, self.count, order=self.order, seed=self.seed, tick=tick)


@dataclass(frozen=True)
class ShuffledMap:
    """The map of a shuffled model."""

    asked: Asked
    how: Shuffle

    def __call__(self, chosen: Chosen, subject: Subject, tick: Tick) -> Shuffled:
        """Make the map."""
        return self.how.of(chosen, subject, self.asked, tick)

    def size(self, made: Shuffled) -> int:
        """Return the bytes of its arrays."""
        return made.explanation.attribution.nbytes + made.explanation.heatmap.nbytes * 2 + (1 << 12)


@dataclass(frozen=True)
class Similarity:
    """How alike the map of a shuffled model is: the number alone, so that many fit the memory."""

    asked: Asked
    how: Shuffle

    def __call__(self, chosen: Chosen, subject: Subject, tick: Tick) -> float:
        """Make the map and compare it."""
        return self.how.of(chosen, subject, self.asked, tick).similarity

    def size(self, _: float) -> int:
        """Return the bytes of a number."""
        return 1 << 10


@dataclass(frozen=True)
class Curve:
    """A deletion or insertion curve with its pictures."""

    asked: Asked
    direction: Direction = "deletion"
    fill: BaselineName = "blur"

    def __call__(self, chosen: Chosen, subject: Subject, tick: Tick) -> Stepwise:
        """Measure the curve."""
        e = explained(chosen, subject, self.asked, tick)
        return stepwise(chosen.model, e, self.direction, fill=self.fill, seed=self.asked.seed, tick=tick)

    def size(self, made: Stepwise) -> int:
        """Return the bytes of what its pictures are made from."""
        return made.x.nbytes + made.fill.nbytes + made.ranks.nbytes + (1 << 12)


def tried(chosen: Chosen, subject: Subject, trial: Trial[T], tick: Tick = None) -> T:
    """Return what comes of a trial; remembered. Raises what the library raises."""
    store = store_of(private=chosen.private or subject.private)
    found: T = store.get((chosen.key, subject.key, trial), lambda: trial(chosen, subject, tick), trial.size)
    return found


def is_tried(chosen: Chosen, subject: Subject, trial: Trial[T]) -> bool:
    """Say whether a trial's result is remembered."""
    return (chosen.key, subject.key, trial) in store_of(private=chosen.private or subject.private)
