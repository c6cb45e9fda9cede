"""Write files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import InputError

__all__ = ["written"]


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """Give a path to write to, beside ``file``; it takes the file's place when the block ends well.

    An interruption leaves neither half a file nor the aside. Raises InputError where nothing can be written there.
    """
    aside = file.with_name(f".{file.stem}.part{file.suffix}")
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
