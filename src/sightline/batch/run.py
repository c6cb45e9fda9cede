"""A run: a source, a model and what is asked of it, through an engine into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from sightline.batch.done import Done, Known
from sightline.batch.failed import failed_images
from sightline.batch.hopes import Hopes
from sightline.batch.interrupting import uninterrupted
from sightline.batch.job import Job
from sightline.batch.local import run_local
from sightline.batch.rows import Row, Work, shape_of
from sightline.batch.sizing import batch_size_of
from sightline.batch.sources import Item, Named, Source, source_of
from sightline.batch.store import Settings, Writer, writing
from sightline.batch.summary import Summary
from sightline.batch.table import IMAGES, UNREAD, table_of
from sightline.batch.units import Outcome, units_of
from sightline.errors import ParameterError
from sightline.models.model import Model
from sightline.results import versions

__all__ = ["Engine", "How", "run"]

Engine = Literal["local", "ray"]

_PART_ROWS = 512
_PART_BYTES = 32 << 20
_PART_SECONDS = 60.0
_SHOWN = 20


@dataclass(frozen=True)
class How:
    """How a run is done: none of this changes what comes out, but for the last bit.

    ``resume`` knows images again by name, size and time, without reading them; otherwise by their content.
    ``workers`` are processes that decode, of the Ray engine actors that explain. ``fingerprint`` is kept with what is
    committed, see `sightline.batch.finished`.
    """

    engine: Engine = "local"
    workers: int | None = None
    batch_size: int | Literal["auto"] = "auto"
    resume: bool = False
    wait: bool = False
    ray_address: str | None = None
    fingerprint: str | None = None


@dataclass(eq=False)
class _Buffer:
    """What is explained and not on the disk yet: images that lack the same asks."""

    asks: tuple[str, ...] = ()
    items: list[tuple[Item, str | None]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def full(self) -> bool:
        raw = sum(len(row.get("raw") or b"") for row in self.rows)
        late = time.monotonic() - self.since > _PART_SECONDS
        return len(self.rows) >= _PART_ROWS or len(self.items) >= 8 * _PART_ROWS or raw > _PART_BYTES or late


@dataclass(eq=False)
class _Run:
    """A run under way."""

    job: Job
    writer: Writer
    done: Done
    summary: Summary
    about: dict[str, Any]
    hopes: Hopes
    asks: dict[tuple[str, str], str]
    buffer: _Buffer = field(default_factory=_Buffer)
    own: Known = field(default_factory=Known)

    @uninterrupted()
    def take(self, outcome: Outcome) -> int:
        """Keep what came of a unit, on the disk where enough has come together; return its number of images."""
        if outcome.unit.asks != self.buffer.asks:
            self.flush()
            self.buffer.asks = outcome.unit.asks
        rows: dict[str, dict[str, Row]] = {}  # by their keys: a table may name an image several times
        for row in outcome.rows:
            rows.setdefault(row["image"], {})[row["key"]] = row
        for item, content in zip(outcome.unit.items, outcome.contents, strict=True):
            self._take(item, content, list(rows.pop(item.uri, {}).values()))
        self.hopes.check()
        if self.buffer.full:
            self.flush()
        return len(outcome.unit.items)

    def _take(self, item: Item, content: str | None, rows: list[Row]) -> None:
        asks = self.buffer.asks
        if content is not None:
            rows = [row for row in rows if not self.done.has_content(content, [self.asks[row["method"], row["asked"]]])]
        known = content is not None and self.done.has_content(content, asks)
        unread = any(row["error"] is not None and row["image_hash"] is None for row in rows)
        item = replace(item, stamp=UNREAD) if unread else item  # so that resuming tries it again
        named = not self.done.missing_by_name(item, asks)
        self.summary.images += 1
        if known or not rows:
            ours = content is not None and content in self.own
            self.summary.duplicates += ours
            self.summary.already += not ours
        else:
            self._keep(content, [] if content is None and named else rows)
            self._count(item, rows)
        if not named or (content is not None and not known):
            self.buffer.items.append((item, content))
        self.done.add([(item, content)], asks)

    def _keep(self, content: str | None, rows: list[Row]) -> None:
        self.buffer.rows += rows
        self.summary.rows += len(rows)
        if content is not None:
            self.own.add([content])
            self.hopes.see(rows)

    def _count(self, item: Item, rows: list[Row]) -> None:
        errors = [row["error"] for row in rows if row["error"] is not None]
        self.summary.explained += len(errors) < len(rows)
        self.summary.failed += bool(errors)
        if errors and len(self.summary.failures) < _SHOWN:
            self.summary.failures.append({"image": item.uri, "message": errors[0]})

    @uninterrupted()
    def flush(self) -> None:
        """Bring what is explained to the disk."""
        held, self.buffer = self.buffer, _Buffer(self.buffer.asks)
        if held.items:
            listed = [
                {"image": i.uri, "size": i.size, "stamp": i.stamp, "image_hash": content} for i, content in held.items
            ]
            rows = table_of(held.rows, self.writer.store.schema)
            self.writer.commit(pa.Table.from_pylist(listed, IMAGES), rows, held.asks, self.about)
            self.summary.parts += 1


def run(
    source: Source | Named | Sequence[Named],
    job: Job,
    out: str | os.PathLike[str],
    how: How = How(),
    *,
    model: Model | None = None,
    on_images: Callable[[int], None] = lambda images: None,
    on_begin: Callable[[int | None], None] = lambda images: None,
) -> Summary:
    """Explain every image of a source as a job asks, into the store ``out``, which may hold some of it already.

    ``model`` is the job's, where it is open already. ``on_begin`` is called with the number of images, where the source
    knows it; ``on_images`` with each unit's.
    Raises InputError for a source without images or a store that cannot be written, and what `explain` raises for
    what no image could make right; an image that fails is a row with its error.
    """
    started = time.monotonic()
    found = source if isinstance(source, Source) else source_of(source)
    _check(how)
    opened = job.open_model() if model is None else model
    work = Work.of(job, opened)
    asks = [ask.hash for ask in work.asks]
    with writing(out, Settings(shape_of(job, opened), job.raw), wait=how.wait) as writer:
        done = Done(writer.store, asks, by_name=how.resume)
        on_begin(found.count() if found.count else None)
        size = batch_size_of(how.batch_size, work, found, writer.store)
        about = {"versions": versions(), "engine": how.engine, "batch_size": size, "source": found.name} | (
            {"fingerprint": how.fingerprint} if how.fingerprint else {}
        )
        summary = Summary(str(writer.store.place))
        hashes = {(ask.method, ask.target): ask.hash for ask in work.asks}
        going = _Run(job, writer, done, summary, about, Hopes.of(work.asks, writer.store), hashes)
        try:
            with closing(_outcomes(work, _counted(found, done, summary, on_images), size, done, how)) as outcomes:
                for outcome in outcomes:
                    on_images(going.take(outcome))
        except KeyboardInterrupt:
            going.flush()
            raise
        going.flush()
        summary.failed_before = max(0, failed_images(writer.store, asks) - summary.failed)
    summary.seconds = time.monotonic() - started
    return summary


def _outcomes(work: Work, items: Iterator[Item], size: int, done: Done, how: How) -> Generator[Outcome, None, None]:
    units = units_of(items, size, done)
    if how.engine == "local":
        workers = how.workers if how.workers is not None else max(1, (os.cpu_count() or 2) // 2)
        yield from run_local(work, units, workers, done.has_content)
    else:
        from sightline.batch.ray import run_ray

        yield from run_ray(work, units, how.workers, how.ray_address, done.has_content)


def _counted(source: Source, done: Done, summary: Summary, on_images: Callable[[int], None]) -> Iterator[Item]:
    """Yield a source's items, and count those that are done by their names."""
    for item in source.items():
        if not done.missing(item):
            summary.images += 1
            summary.already += 1
            on_images(1)
        yield item


def _check(how: How) -> None:
    if how.workers is not None and how.workers < 0:
        raise ParameterError(f"workers={how.workers}: wanted 0 (decode in this process) or more.")
    if how.engine not in ("local", "ray"):
        raise ParameterError(f"engine={how.engine!r}: wanted local or ray.")
    if how.batch_size != "auto" and (not isinstance(how.batch_size, int) or how.batch_size < 1):
        raise ParameterError(f"batch_size={how.batch_size!r}: wanted at least 1, or auto.")
