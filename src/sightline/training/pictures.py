"""Every image opened once before training: what it is, the hash of its bytes, or why it cannot be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import ImageError
from sightline.images import read_image, stored_traits
from sightline.paths import check_file, shown, why

__all__ = ["Checked", "check_images"]

_WORKERS = 4


@dataclass(frozen=True)
class Checked:
    """A file that was opened: the SHA-256 of its bytes and its traits, or why it cannot be read."""

    hash: str = ""
    traits: frozenset[str] = frozenset()
    reason: str | None = None


def check_images(
    files: Sequence[str], *, channels: int, max_pixels: int, on_step: Callable[[int], None] = lambda images: None
) -> list[Checked]:
    """Decode each file and hash its bytes, a few at a time; ``on_step`` is told of each image that is done."""
    pool = ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1))
    try:
        running = [pool.submit(_check, file, channels, max_pixels) for file in files]
        checked = []
        for one in running:
            checked.append(one.result())
            on_step(1)
        return checked
    finally:  # interrupted, none of the images that wait is opened any more
        pool.shutdown(wait=False, cancel_futures=True)


def _check(file: str, channels: int, max_pixels: int) -> Checked:
    try:
        check_file(Path(file), shown(file))
        with open(file, "rb") as stream:  # first: reading goes side by side, decoding one by one
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        read_image(file, channels=channels, max_pixels=max_pixels)
        traits = stored_traits(Path(file))
    except ImageError as error:
        return Checked(reason=str(error))
    except OSError as error:
        return Checked(reason=f"{shown(file)} cannot be read ({why(error)}).")
    return Checked(digest, traits)
