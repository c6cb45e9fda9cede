"""The way back from a row's ``image`` to its pixels."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import TarError

from sightline.batch.content import picture_of
from sightline.batch.names import content_digest
from sightline.batch.sources import reach
from sightline.batch.sources.items import File, Member, Where
from sightline.batch.sources.shards import members
from sightline.errors import ImageError
from sightline.images import MAX_PIXELS, Picture
from sightline.paths import shown, why

__all__ = ["original_of", "read_original"]

_ROW = re.compile(r"(\d+)(?::(.+))?", re.DOTALL)


@dataclass(frozen=True)
class _Row:
    """The bytes in a row of a Parquet table."""

    path: str
    number: int
    column: str | None

    def fetch(self) -> bytes:
        """Read the bytes."""
        from sightline.batch.sources.parquet import row_bytes

        return row_bytes(self.path, self.number, self.column)


def read_original(uri: str, *, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the picture that a row's ``image`` names: upright 8-bit pixels, as they were explained.

    ``uri`` is a path, a URL, ``shard.tar#member.jpg`` or ``table.parquet#17``. The picture's hash is that of the row's
    ``image_hash`` where its content is still the same.
    Raises ImageError where it is gone or cannot be read.
    """
    said = shown(uri)
    try:
        data = original_of(uri).fetch()
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{said} cannot be read ({why(error)}); the store holds no picture, only where it was."
        ) from None
    return picture_of(data, content_digest(data), said, channels, max_pixels)


def original_of(uri: str) -> Where:
    """Return how the bytes that a row's ``image`` names are had. Raises OSError where a tar holds no such member."""
    path = reach.local(uri)
    if not (path.startswith("http") and "#" in path) and reach.is_there(path):  # HTTP has no files with a # in them
        return File(path)
    for inside, name in _splits(uri):
        if (row := _ROW.fullmatch(name)) and not inside.partition("?")[0].casefold().endswith(".tar"):
            return _Row(inside, int(row[1]), row[2])
        if reach.is_there(inside):
            return _member(inside, name)
    return File(path)


def _splits(uri: str) -> Iterator[tuple[str, str]]:
    """Yield what may be a file and the part of it that is meant; file names, too, may hold a ``#``."""
    for found in re.finditer("#", uri):
        inside = reach.local(uri[: found.start()])
        if inside.partition("?")[0].casefold().endswith((".tar", ".parquet", ".pq")):
            yield inside, uri[found.end() :]


def _member(path: str, name: str) -> Member:
    found = _index(path, reach.look(path)).get(name)
    if found is None:
        raise OSError("there is no such member in the archive")
    return Member(path, *found)


@functools.lru_cache(maxsize=2)
def _index(path: str, look: reach.Look) -> dict[str, tuple[int, int]]:
    """Return where each member of an archive lies, until it changes."""
    found: dict[str, tuple[int, int]] = {}
    try:
        for member in members(path):
            found.setdefault(member.name, (member.offset, member.size))
    except TarError:
        if not found:
            raise OSError("the archive is damaged") from None
    return found
