"""The way back from a row's ``image`` to its pixels."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from tarfile import TarError

from sightline.arrays import read_upload as read_array
from sightline.batch.names import content_digest
from sightline.batch.sources import reach
from sightline.batch.sources.items import File, Member, Where
from sightline.batch.sources.shards import members
from sightline.errors import ImageError
from sightline.images import MAX_PIXELS, Picture, decoded, read_image
from sightline.paths import shown, why

__all__ = ["original_of", "read_original"]

_ROW = re.compile(r"(\d+)(?::(.+))?", re.DOTALL)
_ARRAYS = (b"\x93NUMPY", b"PK")


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
    digest = content_digest(data)
    if not data:
        raise ImageError(f"{said} is empty (0 bytes); get it again.")
    if data.startswith(_ARRAYS):
        array = read_array(io.BytesIO(data), said, max_pixels * max(4, channels))
        return replace(read_image(array, channels=channels, max_pixels=max_pixels), name=said, hash=digest)
    return Picture(decoded(io.BytesIO(data), said, channels, max_pixels), said, digest)


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
