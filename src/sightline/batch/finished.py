"""Whether a run that is resumed has anything left: told by names, sizes and times, without loading the model.

Nothing here may import torch, which alone would take longer than the answer.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sightline.batch.done import Done
from sightline.batch.failed import failed_images
from sightline.batch.names import digest
from sightline.batch.place import place_of
from sightline.batch.sources import Source
from sightline.batch.store import Store, open_store
from sightline.batch.summary import Summary

__all__ = ["fingerprint", "if_finished"]

_PACKAGES = ("sightline", "torch", "torchvision", "keras", "timm", "transformers")


def fingerprint(words: Mapping[str, Any]) -> str | None:
    """Return a digest of all that a run was asked by: options, files that they name, and versions.

    None for a model that is made by a function of the user's own, whose code may have changed anywhere.
    """
    if ":" in str(words["model"]).partition("@")[0]:
        return None
    said = {k: str(v) for k, v in words.items()}
    files = {part: _stamps(Path(part)) for v in said.values() for part in (v, *v.split("@"))}
    return digest(json.dumps([said, {k: v for k, v in files.items() if v}, _versions()], sort_keys=True))


def if_finished(source: Source, out: str | os.PathLike[str], wanted: str | None) -> Summary | None:
    """Return the summary of a run that has nothing left to do; None where that is not so, or not known this way."""
    started = time.monotonic()
    if wanted is None or not _is_store(out):
        return None
    store = open_store(out)
    asks = {ask for c in store.commits if c.about.get("fingerprint") == wanted for ask in c.asks}
    images = _images_if_done(source, store, asks) if asks else None
    if images is None:
        return None
    failed = failed_images(store, asks)
    return Summary(str(store.place), images, already=images, failed_before=failed, seconds=time.monotonic() - started)


def _images_if_done(source: Source, store: Store, asks: set[str]) -> int | None:
    done, count = Done(store, asks, by_name=True), 0
    for item in source.items():
        if done.missing(item):
            return None
        count += 1
    return count


def _is_store(out: str | os.PathLike[str]) -> bool:
    try:
        place_of(out).get("store.json")
    except FileNotFoundError:
        return False
    return True


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of a file, or of the files in a folder; nothing for what is no path."""
    try:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return [(p.name, (s := p.stat()).st_size, s.st_mtime_ns) for p in inside]
    except (OSError, ValueError):
        return []


def _versions() -> dict[str, str]:
    return {name: found for name in _PACKAGES if (found := _version(name))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
