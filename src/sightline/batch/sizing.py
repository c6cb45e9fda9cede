"""How many images one pass takes, where that is left to us."""

from __future__ import annotations

import time
from typing import Literal

from sightline.batch.decoding import Decoded, decode, reader_of
from sightline.batch.rows import Work, rows_of
from sightline.batch.sources import Source
from sightline.batch.store import Store

__all__ = ["batch_size_of"]

_MOST = 64
_FASTER = 1.1
_SECONDS = 2.0
_TRIED = 8


def batch_size_of(asked: int | Literal["auto"], work: Work, source: Source, store: Store) -> int:
    """Return the batch size that was asked for, or the one that this store was begun with, or the fastest here.

    Sizes are doubled while that makes an image at least a tenth faster, to 64 at most, or until a trial takes two
    seconds.
    """
    if asked != "auto":
        return asked
    asks = {ask.hash for ask in work.asks}
    kept = [int(c.about["batch_size"]) for c in store.commits if asks & set(c.asks)]
    return kept[-1] if kept else _fastest(work, source)


def _fastest(work: Work, source: Source) -> int:
    most = min(_MOST, source.count() if source.count else _MOST)
    image = _first(work, source) if most > 1 else None
    if image is None:
        return 1
    wanted, best, least = [ask.hash for ask in work.asks], 1, float("inf")
    size = 1
    while size <= most:
        took = _timed(work, [image] * size, wanted)
        if took is None or took / size * _FASTER > least:
            break
        best, least = size, took / size
        if took > _SECONDS:
            break
        size *= 2
    return best


def _first(work: Work, source: Source) -> Decoded | None:
    """Return the first image that can be decoded, of the first few."""
    reader = reader_of(work.plan.model)
    tried = (decode(reader, item) for item, _ in zip(source.items(), range(_TRIED), strict=False))
    return next((one for one in tried if one.error is None), None)


def _timed(work: Work, images: list[Decoded], wanted: list[str]) -> float | None:
    """Return how long a batch takes, the second time; None where it fails."""
    for _ in range(2):
        started = time.perf_counter()
        rows = rows_of(work, images, wanted)
    return None if any(row["error"] is not None for row in rows) else time.perf_counter() - started
