"""A store's parts as files that can be read and never written, whatever an SQL statement says."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from sightline.batch.place import Folder, Place

__all__ = ["Parts"]

# A part is never rewritten, so that it always has the same date.
_WRITTEN = datetime(2000, 1, 1, tzinfo=UTC)


class _Part:
    """A file that several threads read at once, as DuckDB does with one that it opened once: seek, then read.

    Each thread has a place of its own in it. It is closed when it is let go of, for DuckDB does no more than that.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock, self._places = file, threading.Lock(), threading.local()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file, in this thread."""
        with self._lock:
            self._file.seek(self.tell() if whence == io.SEEK_CUR else 0)
            self._places.at = self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        """Return this thread's place in the file."""
        return getattr(self._places, "at", 0)

    def read(self, size: int = -1) -> bytes:
        """Read from this thread's place on."""
        with self._lock:
            self._file.seek(self.tell())
            data = self._file.read(size)
            self._places.at = self._file.tell()
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()


class Parts(AbstractFileSystem):  # type: ignore[misc]  # the interface that DuckDB asks for
    """Files by their names, each a file of a place or bytes; reading is all that it can."""

    protocol = "part"
    cachable = False

    def __init__(self, place: Place, files: Mapping[str, str | bytes]) -> None:
        super().__init__()
        self._place, self._files = place, dict(files)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> _Part:
        """Open a file; PermissionError for anything but reading."""
        if mode != "rb":
            raise PermissionError("parts of a store are never written.")
        return _Part(self._opened(self._files[self._strip_protocol(path)]))

    def _opened(self, found: str | bytes) -> BinaryIO:
        if isinstance(found, bytes):
            return io.BytesIO(found)
        if isinstance(self._place, Folder):
            return (self._place.path / found).open("rb")
        opened: BinaryIO = self._place.files.open(f"{self._place.root}/{found}", "rb")
        return opened

    def _size(self, found: str | bytes) -> int:
        if isinstance(found, bytes):
            return len(found)
        if isinstance(self._place, Folder):
            return (self._place.path / found).stat().st_size
        return int(self._place.files.size(f"{self._place.root}/{found}"))

    def modified(self, path: str) -> datetime:  # noqa: ARG002  the interface
        """Return a date; it is the same of all."""
        return _WRITTEN

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Say that a file is one; FileNotFoundError where there is none."""
        name = self._strip_protocol(path)
        if name not in self._files:
            raise FileNotFoundError(name)
        return {"name": name, "type": "file", "size": self._size(self._files[name])}
