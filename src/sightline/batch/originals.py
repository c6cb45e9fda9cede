"""The originals behind the rows of a store, read again from where they were."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path, PurePath
from urllib.parse import unquote_to_bytes

import numpy as np

from sightline.arrays import read_upload as read_array
from sightline.errors import ImageError, InputError
from sightline.images import MAX_PIXELS, decoded, read_image
from sightline.paths import shown

__all__ = ["original_bytes", "read_original", "read_series"]

_ARRAYS = (".npy", ".npz")


def original_bytes(uri: str, content: str | None = None) -> bytes:
    """Return the bytes behind a URI of a store: a path, a URL, or ``shard.tar#member``.

    ``content`` is the hash that the row has. Raises InputError, which begins with "original not found" or "original
    changed", where they are gone, cannot be read or are not those that were explained.
    """
    try:
        data = _fetched(uri)
    except (OSError, KeyError, ValueError, ImportError, tarfile.TarError):
        raise InputError(f"original not found: {shown(uri)}") from None
    if content is not None and hashlib.sha256(data).hexdigest()[: len(content)] != content:
        raise InputError(f"original changed: {shown(uri)} is another picture than the one that was explained")
    return data


def read_original(uri: str, content: str | None = None) -> np.ndarray:
    """Return the picture behind a URI as uint8 (H, W, 3); raises as `original_bytes` does."""
    data, said = original_bytes(uri, content), shown(uri)
    try:
        if PurePath(uri).suffix.casefold() in _ARRAYS:
            return read_image(read_array(io.BytesIO(data), said, 4 * MAX_PIXELS)).pixels
        return decoded(io.BytesIO(data), said, 3, MAX_PIXELS)
    except ImageError as error:
        raise InputError(f"original not found: {error}") from None


def read_series(uri: str, content: str | None = None) -> np.ndarray:
    """Return the series behind a URI as (C, L), its longer side taken for time; raises as `original_bytes` does."""
    data, said = original_bytes(uri, content), shown(uri)
    try:
        values = np.atleast_2d(np.squeeze(read_array(io.BytesIO(data), said, MAX_PIXELS)))
    except ImageError as error:
        raise InputError(f"original not found: {error}") from None
    if values.ndim > 2:
        raise InputError(f"original not found: {said} holds an array of {values.ndim} dimensions, and no series")
    return np.asarray(values if values.shape[1] >= values.shape[0] else values.T, np.float64)


def _fetched(uri: str) -> bytes:
    if uri.startswith("file://"):  # so rows name a path that is no text
        return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))).read_bytes()
    if "://" in uri:
        import fsspec

        with fsspec.open(uri, "rb") as stream:
            return bytes(stream.read())
    path, sign, member = uri.rpartition("#")
    if sign and not Path(uri).exists():
        return _member(path, member)
    return Path(uri).read_bytes()


def _member(path: str, member: str) -> bytes:
    with tarfile.open(path) as shard:
        stream = shard.extractfile(member)
        if stream is None:
            raise KeyError(member)
        return stream.read()
