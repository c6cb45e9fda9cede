"""The images of a source: each a URI, how its bytes are had, and what changes when they do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sightline.batch.sources import reach

__all__ = ["Broken", "Bytes", "File", "Handed", "Item", "Member", "Source", "Where", "about_of", "file_item"]

_LONG = 4000


class Where(Protocol):
    """A way to an image's bytes, small enough for any process to be sent."""

    def fetch(self) -> bytes:
        """Return the bytes. Raises OSError where they cannot be had."""
        ...


@dataclass(frozen=True)
class File:
    """A file by its path, or an object by its URL, whole."""

    path: str

    def fetch(self) -> bytes:
        """Read the bytes."""
        return reach.read(self.path)


@dataclass(frozen=True)
class Member:
    """Some bytes of a file, as a member of a tar archive."""

    path: str
    offset: int
    size: int

    def fetch(self) -> bytes:
        """Read the bytes, and no others."""
        return reach.read(self.path, self.offset, self.size)


@dataclass(frozen=True)
class Bytes:
    """Bytes that came with the listing."""

    data: bytes

    def fetch(self) -> bytes:
        """Return the bytes."""
        return self.data


@dataclass(eq=False)
class Handed:
    """Bytes on their way to the process that decodes them: given once, so that they do not travel back."""

    data: bytes | None

    def fetch(self) -> bytes:
        """Hand over the bytes."""
        data, self.data = self.data, None
        if data is None:
            raise OSError("its bytes were handed over before")
        return data


@dataclass(frozen=True)
class Broken:
    """What should have been an image, or a file of images, and why it is none."""

    reason: str

    def fetch(self) -> bytes:
        """Raise OSError with the reason."""
        raise OSError(self.reason)


@dataclass(frozen=True)
class Item:
    """One image of a source: its URI, how to fetch it, size and time or etag (None where unknown), other columns."""

    uri: str
    where: Where
    size: int | None = None
    stamp: str | None = None
    about: str | None = None


@dataclass(frozen=True)
class Source:
    """A source as it was named: ``items`` lists it anew each time, in the same order; ``count`` is None if unknown."""

    name: str
    items: Callable[[], Iterator[Item]]
    count: Callable[[], int] | None = None


def file_item(path: str, found: reach.Look | None = None, about: str | None = None) -> Item:
    """Return the item of a file or URL; what is not there, or was not looked at, has neither size nor time."""
    path = path if reach.is_url(path) else os.path.abspath(path)
    if found is None and not reach.is_url(path):
        try:
            found = reach.look(path)
        except OSError:  # reading it will say why, in its row
            found = None
    seen = found or reach.Look()
    return Item(reach.uri_of(path), File(path), seen.size, seen.stamp, about)


def about_of(values: Mapping[str, Any]) -> str | None:
    """Return what else a source says of an image as JSON, without what takes over 4,000 characters.

    >>> about_of({"label": 3, "embedding": [0.5] * 4096})
    '{"label": 3}'
    """
    said = {k: json.dumps(_plain(v), ensure_ascii=False, default=str) for k, v in values.items()}
    kept = ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {v}" for k, v in said.items() if len(v) <= _LONG)
    return f"{{{kept}}}".encode("utf-8", "replace").decode() if kept else None


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows no NaN."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
