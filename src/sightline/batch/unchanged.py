"""Originals that are still what was explained: their bytes, pixels or values, or why they are not to be had."""

from __future__ import annotations

import io

import numpy as np

from sightline.arrays import read_upload as read_array
from sightline.batch.names import content_digest
from sightline.batch.originals import original_of, read_original
from sightline.errors import ImageError, InputError
from sightline.images import MAX_PIXELS
from sightline.paths import shown

__all__ = ["original_bytes", "unchanged_picture", "unchanged_series"]


def original_bytes(uri: str, content: str | None = None) -> bytes:
    """Return the bytes behind a row's ``image``; ``content`` is the ``image_hash`` that the row has.

    Raises InputError, which begins with "original not found" or "original changed", where they are gone, cannot be
    read or are not those that were explained.
    """
    try:
        data = original_of(uri).fetch()
    except (OSError, ValueError):
        raise InputError(f"original not found: {shown(uri)}") from None
    _refuse_changed(uri, content_digest(data), content)
    return data


def unchanged_picture(uri: str, content: str | None = None) -> np.ndarray:
    """Return the picture behind a row's ``image`` as uint8 (H, W, 3); raises as `original_bytes` does."""
    try:
        found = read_original(uri)
    except ImageError as error:
        raise InputError(f"original not found: {error}") from None
    _refuse_changed(uri, found.hash, content)
    return found.pixels


def unchanged_series(uri: str, content: str | None = None) -> np.ndarray:
    """Return the series behind a row's ``image`` as (C, L), its longer side taken for time, as `original_bytes`."""
    data, said = original_bytes(uri, content), shown(uri)
    try:
        values = np.atleast_2d(np.squeeze(read_array(io.BytesIO(data), said, MAX_PIXELS)))
    except ImageError as error:
        raise InputError(f"original not found: {error}") from None
    if values.ndim > 2:
        raise InputError(f"original not found: {said} holds an array of {values.ndim} dimensions, and no series")
    return np.asarray(values if values.shape[1] >= values.shape[0] else values.T, np.float64)


def _refuse_changed(uri: str, found: str, content: str | None) -> None:
    if content is not None and found != content:
        raise InputError(f"original changed: {shown(uri)} is another picture than the one that was explained")
