"""What a store holds already, in 16 bytes for each image and ask: by URI, size and time, and by content."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sightline.batch.names import item_digest
from sightline.batch.sources import Item
from sightline.batch.store import Commit, Store

__all__ = ["Done", "Known"]

_MERGE = 1 << 16


class Known:
    """A set of digests of 32 hexadecimal digits, kept in 16 bytes each."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, "S16")
        self._new: set[bytes] = set()

    def add(self, digests: Iterable[str]) -> None:
        """Add digests."""
        self._new.update(map(bytes.fromhex, digests))
        if len(self._new) >= _MERGE:
            self._sorted = np.union1d(self._sorted, np.array(list(self._new), "S16"))
            self._new.clear()

    def __contains__(self, found: str) -> bool:
        key = bytes.fromhex(found)
        if key in self._new or not len(self._sorted):
            return key in self._new
        place = int(np.searchsorted(self._sorted, np.array(key, "S16")))
        return place < len(self._sorted) and self._sorted[place] == np.array(key, "S16")


class Done:
    """For each ask of a run: the images whose rows are there, by name and by content."""

    def __init__(self, store: Store, asks: Iterable[str], *, by_name: bool) -> None:
        self._names = {ask: Known() for ask in asks}
        self._contents = {ask: Known() for ask in asks}
        self._by_name = by_name
        for commit in store.commits:
            mine = [ask for ask in commit.asks if ask in self._names]
            if mine:
                self._take(store, commit, mine)

    def missing(self, item: Item) -> tuple[str, ...]:
        """Return the asks that an item is not done by, as its name, size and time tell."""
        return self.missing_by_name(item, self._names) if self._by_name else tuple(self._names)

    def missing_by_name(self, item: Item, asks: Iterable[str]) -> tuple[str, ...]:
        """Return those of some asks by which no image of this name, size and time is done."""
        name = item_digest(item.uri, item.size, item.stamp)
        return tuple(ask for ask in asks if name not in self._names[ask])

    def has_content(self, content: str, asks: Iterable[str]) -> bool:
        """Say whether an image of this content is done by all of these asks."""
        return all(content in self._contents[ask] for ask in asks)

    def add(self, items: Iterable[tuple[Item, str | None]], asks: Iterable[str]) -> None:
        """Note that items of these contents are done by some asks."""
        listed = list(items)
        for ask in asks:
            self._names[ask].add(item_digest(item.uri, item.size, item.stamp) for item, _ in listed)
            self._contents[ask].add(content for _, content in listed if content is not None)

    def _take(self, store: Store, commit: Commit, asks: list[str]) -> None:
        listed = store.part(commit.images).to_pydict()
        names = [item_digest(*row) for row in zip(listed["image"], listed["size"], listed["stamp"], strict=True)]
        for ask in asks:
            self._names[ask].add(names)
            self._contents[ask].add(content for content in listed["image_hash"] if content is not None)
