"""What the app remembers: models and explanations, by the hash of their content, up to a size.

What a visitor uploaded, and what came of it, is remembered in the visitor's own session and goes with it; what
everybody can choose is shared by all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import streamlit as st
from cachetools import LRUCache

from sightline.app.turns import TURNS

__all__ = ["Store", "store_of"]

_SESSION_BYTES = 192 << 20
_SHARED_BYTES = 256 << 20


def _size(entry: tuple[Any, int]) -> int:
    return entry[1]


@dataclass(eq=False)
class Store:
    """Results by key, the least recently used forgotten first, of ``most_bytes`` at most; safe in threads.

    >>> store = Store(10)
    >>> store.get("a", lambda: "made", lambda made: len(made)), len(store)
    ('made', 1)
    """

    most_bytes: int
    _kept: LRUCache[Hashable, tuple[Any, int]] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _making: WeakValueDictionary[Hashable, threading.Lock] = field(default_factory=WeakValueDictionary, init=False)

    def __post_init__(self) -> None:
        self._kept = LRUCache(self.most_bytes, getsizeof=_size)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """Return what is kept under a key, or make it when it is its turn, and keep it where it fits."""
        found = self._found(key)
        if found is not None:
            return found[0]
        if TURNS.held:  # within other work: to wait for somebody who waits for this turn would never end
            return self._keep(key, make(), size)
        with self._one_maker(key), TURNS.taken():
            found = self._found(key)  # somebody else may have made it while this one waited
            return found[0] if found is not None else self._keep(key, make(), size)

    def _one_maker(self, key: Hashable) -> threading.Lock:
        with self._lock:
            return self._making.setdefault(key, threading.Lock())

    def _found(self, key: Hashable) -> tuple[Any, int] | None:
        with self._lock:
            return self._kept.get(key)

    def _keep(self, key: Hashable, made: Any, size: Callable[[Any], int]) -> Any:
        with self._lock:
            if size(made) <= self.most_bytes:
                self._kept[key] = (made, size(made))
        return made


@st.cache_resource(show_spinner=False)
def _shared() -> Store:
    return Store(_SHARED_BYTES)


@st.cache_resource(show_spinner=False, scope="session")
def _own() -> Store:
    return Store(_SESSION_BYTES)


def store_of(*, private: bool) -> Store:
    """Return the visitor's own store, or the one that all share."""
    return _own() if private else _shared()
