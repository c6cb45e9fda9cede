"""From the bytes of a file, a member of an archive or a table's cell to a picture."""

from __future__ import annotations

import io
from dataclasses import replace

from sightline.arrays import read_upload as read_array
from sightline.errors import ImageError
from sightline.images import Picture, decoded, read_image

__all__ = ["picture_of"]

_ARRAYS = (b"\x93NUMPY", b"PK")  # how .npy and .npz begin; a table's cell has no name to tell it by


def picture_of(data: bytes, digest: str, said: str, channels: int, max_pixels: int) -> Picture:
    """Decode an image file, or a NumPy array of pixels; the picture's hash is the digest of the bytes.

    Raises ImageError for what is neither.
    """
    if not data:
        raise ImageError(f"{said} is empty (0 bytes); get it again.")
    if data.startswith(_ARRAYS):
        array = read_array(io.BytesIO(data), said, max_pixels * max(4, channels))
        return replace(read_image(array, channels=channels, max_pixels=max_pixels), name=said, hash=digest)
    return Picture(decoded(io.BytesIO(data), said, channels, max_pixels), said, digest)
