"""The pictures that a store's rows are of, read again from where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.errors import ImageError

__all__ = ["read_original"]


def read_original(uri: str) -> Any:
    """Return what `sightline.images.read_image` takes for a row's ``image``: here the path of a file.

    Raises ImageError where there is no such file any more.
    """
    if not Path(uri).is_file():
        raise ImageError(f"{uri}: there is no such file any more; it was there when the store was made.")
    return uri
