"""Files of this machine and of others by one set of functions: looked at, listed, opened and read."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from sightline.errors import InputError
from sightline.paths import shown, why

__all__ = [
    "Listing",
    "Look",
    "check",
    "children",
    "is_folder",
    "is_url",
    "joined",
    "local",
    "look",
    "opened",
    "read",
    "uri_of",
]

_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"} | {
    "abfss": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "hf": "huggingface_hub",
}
# The most telling first. What a store calls them differs, and so does their case.
_STAMPS = (
    *("etag", "md5hash", "lastmodified", "last_modified", "last-modified", "updated", "mtime", "modified", "created"),
)
_NO_PARTS = "its server gives no parts of files; download it first"


@dataclass(frozen=True)
class Look:
    """What is cheap to know of a file: its size, and a text that changes when it does; None where it is unknown."""

    size: int | None = None
    stamp: str | None = None


@dataclass(frozen=True)
class Listing:
    """The names in a folder, sorted; of files elsewhere also what the listing says of each."""

    folders: list[str]
    files: list[str]
    known: Mapping[str, Look] = field(default_factory=dict)


def is_url(path: str) -> bool:
    """Say whether a path names a file that is not of this machine."""
    return _URL.match(path) is not None


def local(path: str) -> str:
    """Return the path that a ``file://`` URL names, and any other path or URL as it is."""
    if not path.startswith("file://"):
        return path
    plain = path.removeprefix("file://").removeprefix("localhost")
    return plain if os.path.lexists(plain) else os.fsdecode(unquote_to_bytes(plain))


def uri_of(path: str) -> str:
    """Return how rows name a file: by its absolute path or URL; as ``file://`` where the path is no text."""
    if is_url(path):
        return path
    whole = os.path.abspath(path)
    try:
        whole.encode()
    except UnicodeEncodeError:
        return Path(whole).as_uri()
    return whole


def joined(folder: str, name: str) -> str:
    """Return the path of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def is_folder(path: str) -> bool:
    """Say whether there is a folder at a path; at an HTTP address one is what ends in a slash."""
    if not is_url(path):
        return os.path.isdir(path)
    if path.startswith("http"):
        return path.endswith("/")
    files, inner = _reached(path)
    return bool(_asked(path, lambda: files.isdir(inner)))


def look(path: str) -> Look:
    """Look at a file without reading it. Raises OSError where there is none."""
    if not is_url(path):
        try:
            found = os.stat(path)
        except ValueError as error:  # a NUL byte
            raise OSError(str(error)) from None
        return Look(found.st_size, str(found.st_mtime_ns))
    files, inner = _reached(path)
    return _looked(_asked(path, lambda: files.info(inner)))


def is_there(path: str) -> bool:
    """Say whether there is a file at a path or URL."""
    if not is_url(path):
        return os.path.isfile(path)
    files, inner = _reached(path)
    return bool(_asked(path, lambda: files.isfile(inner)))


def check(url: str) -> None:
    """Raise InputError where the package that reads a URL is not installed."""
    _reached(url)


def children(folder: str) -> Listing:
    """List a folder. Raises OSError where it cannot be."""
    return _children_elsewhere(folder) if is_url(folder) else _children_here(folder)


def opened(path: str) -> IO[bytes]:
    """Open a regular file or object to read it, also from the middle. Raises OSError where that cannot be."""
    if is_url(path):
        files, inner = _reached(path)
        return io.BufferedReader(_Far(path, _asked(path, lambda: files.open(inner, "rb"))))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for, and a device never end
            raise OSError("it is no regular file")
        return open(path, "rb", buffering=4096)
    except ValueError as error:  # a NUL byte
        raise OSError(str(error)) from None


def read(path: str, start: int = 0, size: int | None = None) -> bytes:
    """Read a file, or ``size`` bytes from ``start``. Raises OSError where it cannot be read or is shorter."""
    if is_url(path):
        files, inner = _reached(path)
        span = {} if size is None else {"start": start, "end": start + size}
        found = bytes(_asked(path, lambda: files.cat_file(inner, **span))) if size != 0 else b""
    else:
        found = _read_here(path, start, size)
    if size is not None and len(found) > size:
        raise OSError(_NO_PARTS)
    if size is not None and len(found) < size:
        raise OSError(f"{len(found):,} bytes came of {size:,} from byte {start:,} on")
    return found


def _read_here(path: str, start: int, size: int | None) -> bytes:
    with opened(path) as stream:
        there = max(0, os.fstat(stream.fileno()).st_size - start)
        stream.seek(start)
        # What a header claims may not fit into any memory.
        return stream.read() if size is None else stream.read(min(size, there))


def _children_here(folder: str) -> Listing:
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else files).append(entry.name)
    return Listing(sorted(folders), sorted(files))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry leads to a folder; a link that leads nowhere is a file, which cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _children_elsewhere(folder: str) -> Listing:
    files, inner = _reached(folder)
    folders, known = [], {}
    for info in _asked(folder, lambda: files.ls(inner, detail=True)):
        whole = str(info["name"]).rstrip("/")
        if whole == inner.rstrip("/"):
            continue  # some stores keep an empty object for a folder
        if info["type"] == "directory":
            folders.append(whole.rpartition("/")[2])
        else:
            known[whole.rpartition("/")[2]] = _looked(info)
    return Listing(sorted(folders), sorted(known), known)


def _looked(info: Mapping[str, Any]) -> Look:
    said = {str(k).casefold(): v for k, v in info.items() if v is not None}
    stamp = next((said[name] for name in _STAMPS if name in said), None)
    plain = stamp.timestamp() if isinstance(stamp, datetime) else stamp
    return Look(said.get("size"), None if plain is None else str(plain))


def _reached(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and its path there. Raises InputError where there is no package for it."""
    kind = url.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{shown(url)}: URLs want fsspec; pip install 'sightline[batch]'.") from None
    try:
        # Its cache of listings would grow with the source, and not show what is added meanwhile.
        files, inner = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        wanted = f"pip install {_PACKAGES[kind]}" if kind in _PACKAGES else why(error)
        raise InputError(f"{shown(url)}: {kind}:// wants a package that is not installed; {wanted}.") from None
    except ValueError as error:
        raise InputError(f"{shown(url)}: {why(error)}; s3://, gs://, http:// and file:// are known.") from None
    return files, inner


class _Far(io.RawIOBase):
    """An object of another machine as a file: whatever goes wrong there is an OSError."""

    def __init__(self, url: str, stream: Any) -> None:
        self._url, self._stream = url, stream

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from anywhere; where the server cannot, seeking says so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as fits."""
        data = _asked(self._url, lambda: self._stream.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        if getattr(self._stream, "size", 0) is None and (place, whence) not in ((self.tell(), 0), (0, 1)):
            raise OSError(_NO_PARTS)
        return int(_asked(self._url, lambda: self._stream.seek(place, whence) or self._stream.tell()))

    def tell(self) -> int:
        """Return the place."""
        return int(self._stream.tell())

    def close(self) -> None:
        """Close it there."""
        if not self.closed:
            self._stream.close()
        super().close()


def _asked(url: str, ask: Any) -> Any:
    """Ask another machine; whatever goes wrong there is an OSError."""
    try:
        return ask()
    except FileNotFoundError:
        raise FileNotFoundError("there is none at this address") from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  each store's client has errors of its own
        raise OSError(f"{type(error).__name__}: {why(error)}") from None
