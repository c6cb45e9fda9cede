"""Tar shards as WebDataset writes them: members of one name are one example, and only their headers are read."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sightline.batch.sources import reach
from sightline.batch.sources.items import Broken, Item, Member, about_of
from sightline.batch.sources.places import Leaf
from sightline.paths import is_picture, why

__all__ = ["member_name", "members", "shard_items"]

_TEXTS = (".cls", ".txt", ".json")
_ARRAYS = (".npy", ".npz")
_MOST_TEXT = 1 << 16
_MOST_HEADER = 1 << 20


@dataclass(frozen=True)
class _Found:
    """A member: its name, where it lies, and what it says if it is a text."""

    name: str
    offset: int
    size: int
    text: str | None = None

    @property
    def key(self) -> str:
        """What the members of one example have in common."""
        return self.name[: len(self.name) - len(self.kind)]

    @property
    def kind(self) -> str:
        """The rest of the name, as jpg or left.png."""
        return self.name.rpartition("/")[2].partition(".")[2]


@dataclass(eq=False)
class _Headers:
    """A stream of which nothing long is read at once, whatever a header claims."""

    stream: IO[bytes]

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError("a header claims an impossible size")
        return self.stream.read(size)

    def seek(self, place: int) -> int:
        return self.stream.seek(place)

    def tell(self) -> int:
        return self.stream.tell()


def shard_items(leaf: Leaf) -> Iterator[Item]:
    """Yield the images of a tar archive, in its order; an archive that breaks off ends in an item that says so.

    The picture of an example is ``KEY.jpg`` (or .png, ...); where there is none, each of its pictures is one, as
    ``KEY.left.png``. ``KEY.cls``, ``KEY.txt`` and ``KEY.json`` say more of it.
    """
    uri, look, broken = reach.uri_of(leaf.path), leaf.look, None
    try:
        look = look or reach.look(leaf.path)
        group: list[_Found] = []
        for found in members(leaf.path, texts=True):
            if group and found.key != group[0].key:
                yield from _items(leaf.path, uri, look, group)
                group = []
            group.append(found)
    except (OSError, tarfile.TarError) as error:
        reason = f"this archive is broken: {why(error)}" if isinstance(error, tarfile.TarError) else why(error)
        broken = Item(uri, Broken(reason), *((look.size, look.stamp) if look else ()))
    if look is not None:
        yield from _items(leaf.path, uri, look, group)
    if broken is not None:
        yield broken


def members(path: str, *, texts: bool = False) -> Iterator[_Found]:
    """Yield the regular members of a tar archive that are not hidden, with what the short texts among them say.

    Raises OSError for an archive that cannot be read, tarfile.TarError for one that is none or breaks off.
    """
    with reach.opened(path) as stream:
        archive = tarfile.open(fileobj=_Headers(stream), mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
        while (info := _next(archive)) is not None:
            name = member_name(info)
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse() and not _is_hidden(name):
                text = _text(stream, info) if texts and name.casefold().endswith(_TEXTS) else None
                yield _Found(name, info.offset_data, info.size, text)
        _check_end(archive.offset, stream)


def member_name(info: tarfile.TarInfo) -> str:
    """Return a member's name as URIs have it: it is only ever compared, and never a path."""
    return info.name.removeprefix("./").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _next(archive: Any) -> tarfile.TarInfo | None:
    before = archive.offset if archive.firstmember is None else -1
    info: tarfile.TarInfo | None = archive.next()
    archive.members.clear()  # which would grow with the archive
    if info is not None and (info.size < 0 or archive.offset <= before):
        raise tarfile.ReadError("a header claims an impossible size")
    return info


def _check_end(place: int, stream: IO[bytes]) -> None:
    """Raise ReadError unless an archive ends as it should: what follows its last member is a block of zeros."""
    stream.seek(place)
    block = stream.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        what = "damaged" if len(block) == tarfile.BLOCKSIZE else "cut off"
        raise tarfile.ReadError(f"it is {what} at byte {place:,}")


def _text(stream: IO[bytes], info: tarfile.TarInfo) -> str | None:
    if info.size > _MOST_TEXT:
        return None
    stream.seek(info.offset_data)
    return stream.read(info.size).decode("utf-8", "replace")


def _is_hidden(name: str) -> bool:
    if "/." not in f"/{name}" and "__MACOSX" not in name:
        return False
    return any(part == "__MACOSX" or (part.startswith(".") and part not in ("..", ".")) for part in name.split("/"))


def _items(path: str, uri: str, look: reach.Look, group: Sequence[_Found]) -> Iterator[Item]:
    about = about_of({found.kind: _said(found) for found in group if found.text is not None})
    for found in _pictures(group):
        yield Item(f"{uri}#{found.name}", Member(path, found.offset, found.size), found.size, look.stamp, about)


def _said(found: _Found) -> Any:
    text = (found.text or "").strip()
    if not found.name.casefold().endswith(".json"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _pictures(group: Sequence[_Found]) -> list[_Found]:
    """Return the pictures of an example: not its masks or arrays where it has a picture by the plain name."""
    pictures = [found for found in group if is_picture(Path(found.name))]
    plain = [found for found in pictures if "." not in found.kind]
    drawn = [found for found in plain if not found.name.casefold().endswith(_ARRAYS)]
    return drawn or plain or pictures
