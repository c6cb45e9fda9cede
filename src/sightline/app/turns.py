"""Who computes when: a few at a time, first come first served, and long work gives way after each of its chunks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TURNS", "Turns"]


class Turns:
    """So many places, taken in the order of asking; a thread that has one takes no second.

    Without it, twenty visitors would hold twenty graphs in memory, and one who asks for thousands of passes would
    keep all others waiting.

    >>> turns = Turns(1)
    >>> with turns.taken():
    ...     turns.give_way()
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()
        self._mine = threading.local()

    @property
    def held(self) -> bool:
        """Whether this thread has a place."""
        return getattr(self._mine, "held", False)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place while the block runs."""
        if self.held:
            yield
            return
        self._take()
        self._mine.held = True
        try:
            yield
        finally:
            self._mine.held = False
            self._leave()

    def give_way(self) -> None:
        """Let those who wait go first, if this thread holds a place; to be called where little memory is held."""
        if self.held and self._waiting:
            self._leave()
            self._take()

    def _take(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


TURNS = Turns(max(1, os.cpu_count() or 1))
