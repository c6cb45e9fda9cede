"""Write files whole or not at all, under names that every system takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import InputError

__all__ = ["file_part", "written"]


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """Give a path to write to, beside ``file``; it takes the file's place when the block ends well.

    An interruption leaves neither half a file nor the aside. Raises InputError where nothing can be written there.
    """
    aside = file.with_name(f".{file.stem}.part{file.suffix}")
    if file.exists() and not file.is_file() and not file.is_dir():  # a rename would put a file in a device's place
        raise InputError(f"{file} is no regular file, and would be replaced; name another place, as with --out DIR.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, file)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror or error}); name another place, as with --out DIR."
        ) from None
    finally:
        if aside.parent.is_dir():
            aside.unlink(missing_ok=True)


def file_part(text: str, most: int = 48) -> str:
    """Return a text as part of a file name: letters, digits, dots, dashes and underscores.

    >>> file_part("bull mastiff")
    'bull_mastiff'
    """
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.UNICODE).strip("._")[:most] or "_"
