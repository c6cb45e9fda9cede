"""How the units of a run reach Ray as they are wanted: a task that yields blocks, and an actor that it asks for them.

Processes that only hand units on import this, so it is light.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pickle
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from sightline.batch.units import Unit

__all__ = ["Feeding", "fed", "together"]

_ENDS = 5.0
_SECONDS = 1.0  # that a block should take: each costs Ray and this process about ten milliseconds
_IMAGES = 64  # in a block, if it is more than a unit: they lie in an actor's memory at once
_REMEMBERED = 1 << 12  # blocks whose tries are known: more than are ever under way


def fed(feed: Any, _: pa.Table) -> Iterator[pa.Table]:
    """Yield blocks of units as the driver has them ready, from the first, also when this task is done again."""
    import ray

    for number in itertools.count():
        said = ray.get(feed.take.remote(number))
        if said is None:
            return
        yield pa.table({"units": pa.array([said], pa.large_binary())})


class Feed:
    """An actor by which the driver is asked for blocks: it holds none for longer than it takes to hand them on."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[int | None] = asyncio.Queue()
        self.given: dict[int, asyncio.Future[bytes | None]] = {}
        self.tries: Counter[int] = Counter()

    async def take(self, number: int) -> bytes | None:
        """Return a block, once the driver has given it."""
        await self.asked.put(number)
        try:
            return await self._place(number)
        finally:
            self.given.pop(number, None)

    async def wanted(self) -> int | None:
        """Return the number of a block that was asked for; None after the end."""
        return await self.asked.get()

    async def end(self) -> None:
        """Say that nothing more will be given."""
        await self.asked.put(None)

    async def tried(self, number: int) -> int:
        """Count how often a block's explanation was begun."""
        self.tries[number] += 1
        self.tries.pop(number - _REMEMBERED, None)
        return self.tries[number]

    async def give(self, number: int, said: bytes | None) -> None:
        """Hand on a block; None says that there are no more."""
        if not self._place(number).done():
            self._place(number).set_result(said)

    def _place(self, number: int) -> asyncio.Future[bytes | None]:
        return self.given.setdefault(number, asyncio.get_running_loop().create_future())


class Feeding:
    """The driver's side of a feed: this thread cuts blocks and keeps them until they are done, another hands them on.

    A block is one unit, or several where that many take no longer than a second.
    """

    def __init__(self, ray: Any, units: Iterator[Unit], ahead: int) -> None:
        self.ray, self.units, self.ahead = ray, units, ahead
        self.begun: dict[int, tuple[list[Unit], bytes]] = {}
        self.together, self.cut, self.ended = 1, 0, False
        self.changed = threading.Condition()
        self.actor = ray.remote(Feed).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> None:
        self._cut()
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify()
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.get(self.actor.end.remote(), timeout=_ENDS)
        self.ray.kill(self.actor)
        self.thread.join()

    def done(self, number: int, seconds: float) -> list[Unit]:
        """Return the units of a block that is done, and took so long; cut as many blocks as are."""
        with self.changed:
            units, _ = self.begun.pop(number)
        self.together = together(units, seconds)
        self._cut()
        return units

    def _cut(self) -> None:
        while len(self.begun) < self.ahead and not self.ended:
            units = list(itertools.islice(self.units, self.together))
            said = pickle.dumps((self.cut, units))
            with self.changed:
                if units:
                    self.begun[self.cut] = units, said
                    self.cut += 1
                else:
                    self.ended = True
                self.changed.notify()

    def _serve(self) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError):  # where the cluster is lost, the blocks say so
            while (number := self.ray.get(self.actor.wanted.remote())) is not None:
                self.ray.get(self.actor.give.remote(number, self._said(number)))

    def _said(self, number: int) -> bytes | None:
        """Return a block once it is cut; nothing for one that is done, None for one that will never be."""
        with self.changed:
            self.changed.wait_for(lambda: number < self.cut or self.ended)
            return self.begun.get(number, ([], b""))[1] if number < self.cut else None


def together(units: Sequence[Unit], seconds: float) -> int:
    """Return how many units the next block takes, from how long these took.

    >>> from sightline.batch.units import Unit
    >>> [together([Unit([...] * 8, ("",))], seconds) for seconds in (0.01, 0.3, 5)]
    [8, 3, 1]
    """
    fit = _IMAGES // max(len(unit.items) for unit in units)
    return max(1, min(fit, int(_SECONDS * len(units) / max(seconds, 1e-3))))
