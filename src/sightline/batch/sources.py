"""What a run goes over: items, each an image's URI, how its bytes are had, and what changes when it does."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import InputError
from sightline.paths import is_picture, shown

__all__ = ["Bytes", "File", "Item", "Source", "source_of"]


@dataclass(frozen=True)
class File:
    """A file of this machine, whole."""

    path: str

    def fetch(self) -> bytes:
        """Read the bytes. Raises OSError where they cannot be had."""
        if not stat.S_ISREG(os.stat(self.path).st_mode):  # a pipe would be waited for, and a device never end
            raise OSError("it is no regular file")
        return Path(self.path).read_bytes()


@dataclass(frozen=True)
class Bytes:
    """Bytes that came with the listing."""

    data: bytes

    def fetch(self) -> bytes:
        """Return the bytes."""
        return self.data


@dataclass(frozen=True)
class Item:
    """One image of a source: its URI, how to fetch it, size and time or etag (None where unknown), other columns."""

    uri: str
    where: File | Bytes
    size: int | None = None
    stamp: str | None = None
    about: str | None = None


@dataclass(frozen=True)
class Source:
    """A source as it was named: ``items`` lists it anew each time, in the same order; ``count`` is None if unknown."""

    name: str
    items: Callable[[], Iterator[Item]]
    count: Callable[[], int] | None = None


def source_of(named: str | os.PathLike[str]) -> Source:
    """Return the source that a path, pattern or URL names.

    Raises InputError where there is none, or no images in it.
    """
    said = os.fspath(named)
    path = Path(said)
    if path.is_dir():
        return _listed(said, lambda: _below(path))
    if glob.has_magic(said) and not path.exists():
        return _listed(said, lambda: iter(sorted(glob.iglob(said, recursive=True))))
    if path.is_file():
        return _listed(said, lambda: iter([said]))
    raise InputError(f"{shown(said)}: no such file, folder or pattern of files; give a folder of images.")


def _listed(said: str, paths: Callable[[], Iterator[str]]) -> Source:
    if next(paths(), None) is None:
        raise InputError(f"{shown(said)} holds no images; wanted .jpg, .png or other picture files, also in folders.")
    return Source(said, lambda: (file_item(p) for p in paths()), lambda: sum(1 for _ in paths()))


def file_item(path: str) -> Item:
    """Return the item of a file; one that is not there has neither size nor time."""
    whole = os.path.abspath(path)
    try:
        found = os.stat(whole)
    except OSError:
        return Item(uri_of(whole), File(whole))
    return Item(uri_of(whole), File(whole), found.st_size, str(found.st_mtime_ns))


def uri_of(whole: str) -> str:
    """Return how rows name a file: by its absolute path; as ``file://`` where the path is no text."""
    try:
        whole.encode()
    except UnicodeEncodeError:
        return Path(whole).as_uri()
    return whole


def _below(folder: Path) -> Iterator[str]:
    """Yield the picture files below a folder, those of one folder sorted, hidden ones left out."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (os.path.join(at, f) for f in sorted(files) if is_picture(Path(f)) and not f.startswith("."))
