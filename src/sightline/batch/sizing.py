"""How many images one pass takes, where that is left to us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

from sightline.batch.decoding import Decoded, decode, reader_of
from sightline.batch.rows import Work, rows_of
from sightline.batch.sources import Source
from sightline.batch.store import Store
from sightline.engine import stacked
from sightline.errors import ModelError
from sightline.forward import run_forward

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
    wanted = [ask.hash for ask in work.asks]
    known = ((one, took) for one in _first(work, source) if (took := _timed(work, [one], wanted)) is not None)
    image, took = next(known, (None, 0.0)) if most > 1 else (None, 0.0)
    best, least = 1, took
    while image is not None and 2 * best <= most and took <= _SECONDS and _takes(work, [image] * 2 * best):
        tried = _timed(work, [image] * 2 * best, wanted)
        if tried is None or tried / (2 * best) * _FASTER > least:
            break
        best, took, least = 2 * best, tried, tried / (2 * best)
    return best


def _first(work: Work, source: Source) -> Iterator[Decoded]:
    """Yield those of the first few images that can be decoded."""
    reader = reader_of(work.plan.model)
    tried = (decode(reader, item) for item, _ in zip(source.items(), range(_TRIED), strict=False))
    return (one for one in tried if one.error is None)


def _takes(work: Work, images: list[Decoded]) -> bool:
    """Say whether the model takes so many at once: what it does not take is halved, and comes out all the same."""
    model = work.plan.model
    try:
        run_forward(model.module, stacked(model, [one.sample(model, 0) for one in images]), grad=False)
    except ModelError:
        return False
    return True


def _timed(work: Work, images: list[Decoded], wanted: list[str]) -> float | None:
    """Return how long a batch takes, the second time; None where it fails."""
    for _ in range(2):
        started = time.perf_counter()
        rows = rows_of(work, images, wanted)
    return None if any(row["error"] is not None for row in rows) else time.perf_counter() - started
