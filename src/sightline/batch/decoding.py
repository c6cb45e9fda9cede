"""From an item to what the model takes, in worker processes: in order, with a bounded number under way."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import PurePath
from types import ModuleType, TracebackType

import numpy as np
import torch

from sightline.arrays import read_upload as read_array
from sightline.batch.sources import Item
from sightline.errors import ImageError, SightlineError
from sightline.geometry import Geometry
from sightline.images import Picture, decoded, read_image
from sightline.models.model import Model
from sightline.paths import shown, why
from sightline.samples import Sample, sample_of_signal

__all__ = ["Decoded", "Decoders", "decode", "reader_of"]

_ARRAYS = (".npy", ".npz")
_SLICE = 8
_KILLED = "decoding it ended the process that did it, twice; look at the file, and at the memory that is left"


@dataclass(frozen=True, eq=False)
class Decoded:
    """An item after decoding: its content's hash, and the input with the way back, or why there is none."""

    item: Item
    hash: str | None
    x: np.ndarray | None = None
    geometry: Geometry | None = None
    how: str = ""
    error: str | None = None

    def sample(self, model: Model, number: int) -> Sample:
        """Return the sample that the engine takes, on the model's device."""
        x = torch.from_numpy(self.x).to(model.device, model.dtype)
        return Sample(number, number, x, self.geometry, None, self.item.uri, self.hash, None, self.how)


def reader_of(model: Model) -> Model:
    """Return the model without its network: small enough for any process, and all that decoding asks for."""
    known = model.input_dims == 2
    return replace(
        model,
        module=torch.nn.Identity(),
        dims=model.input_dims,
        assumed=model.assumed and not known,
        _layers={},
        _copies={},
        _shuffled={},
    )


def decode(reader: Model, item: Item) -> Decoded:
    """Fetch and decode one item; what cannot be read says why."""
    try:
        data = item.where.fetch()
    except (OSError, ValueError, MemoryError) as error:
        return Decoded(item, None, error=f"{shown(item.uri)} cannot be read ({why(error)})")
    digest = hashlib.sha256(data).hexdigest()[:32]
    try:
        return _prepared(reader, item, data, digest)
    except ImageError as error:
        return Decoded(item, digest, error=str(error))
    except Exception as error:  # noqa: BLE001  one image must not end the run
        return Decoded(
            item, digest, error=f"{shown(item.uri)} cannot be prepared ({type(error).__name__}: {why(error)})."
        )


def _prepared(reader: Model, item: Item, data: bytes, digest: str) -> Decoded:
    if not data:
        raise ImageError(f"{shown(item.uri)} is empty (0 bytes); get it again.")
    if reader.input_dims != 2:
        values = read_array(io.BytesIO(data), shown(item.uri), reader.max_pixels)
        found = sample_of_signal(reader, values, 0)
        return Decoded(item, digest, found.x.numpy(), None, found.how)
    x, geometry = reader.prepare(_picture(reader, item, data, digest))
    return Decoded(item, digest, x.numpy(), geometry, reader.preprocessing.describe())


def _picture(reader: Model, item: Item, data: bytes, digest: str) -> Picture:
    said, channels = shown(item.uri), reader.preprocessing.channels
    if PurePath(item.uri).suffix.casefold() in _ARRAYS:
        array = read_array(io.BytesIO(data), said, reader.max_pixels * max(4, channels))
        return replace(read_image(array, channels=channels, max_pixels=reader.max_pixels), hash=digest)
    return Picture(decoded(io.BytesIO(data), said, channels, reader.max_pixels), said, digest)


_READER: list[Model] = []


def _begin(reader: Model) -> None:
    """Ready a worker: Ctrl-C is its parent's to hear, and it ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _READER[:] = [reader]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _decode_slice(items: Sequence[Item]) -> list[Decoded]:
    return [decode(_READER[0], item) for item in items]


@contextmanager
def _clean_start() -> Iterator[None]:
    """Let processes that begin meanwhile hear no Ctrl-C, and not run the caller's script: they need nothing of it."""
    resource_tracker.ensure_running()  # which lets the signal in again, where it is begun meanwhile
    script = sys.modules["__main__"]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class Decoders:
    """Worker processes that decode; none of them (``workers`` 0) decodes here."""

    def __init__(self, reader: Model, workers: int) -> None:
        self.reader, self.workers = reader, workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._close(wait=kind is None)

    def map(self, units: Iterator[list[Item]]) -> Iterator[list[Decoded]]:
        """Yield the units decoded, in their order; at most two of them beyond the one that is asked for are begun."""
        if not self.workers:
            yield from ([decode(self.reader, item) for item in unit] for unit in units)
            return
        under_way: deque[tuple[list[Item], list[Future[list[Decoded]]]]] = deque()
        for unit in units:
            under_way.append((unit, self._submit(unit)))
            if len(under_way) > 2:
                yield self._result(under_way)
        while under_way:
            yield self._result(under_way)

    def _result(self, under_way: deque[tuple[list[Item], list[Future[list[Decoded]]]]]) -> list[Decoded]:
        unit, futures = under_way.popleft()
        try:
            return [one for future in futures for one in future.result()]
        except (BrokenProcessPool, CancelledError):
            self._close(wait=False)
            found = [self._alone(item) for item in unit]
            for number, (later, _) in enumerate(under_way):
                under_way[number] = later, self._submit(later)
            return found

    def _alone(self, item: Item) -> Decoded:
        """Decode one item with no other under way, so that a worker that is killed by it is known to be."""
        for _ in range(2):
            try:
                return self._submit([item])[0].result()[0]
            except BrokenProcessPool:
                self._close(wait=False)
        self._refuse_no_workers()
        return Decoded(item, None, error=f"{shown(item.uri)}: {_KILLED}.")

    def _refuse_no_workers(self) -> None:
        """Raise where workers end with nothing to do: it was not an image that ended them."""
        try:
            self._started(_decode_slice, [])[0].result()
        except BrokenProcessPool:
            raise SightlineError(
                "the worker processes end as soon as they have begun; decode in this process, with --workers 0 "
                "(workers=0)."
            ) from None

    def _submit(self, unit: Sequence[Item]) -> list[Future[list[Decoded]]]:
        slices = [unit[i : i + _SLICE] for i in range(0, len(unit), _SLICE)]
        try:
            return self._started(_decode_slice, *slices)
        except BrokenProcessPool:
            self._close(wait=False)
            return self._started(_decode_slice, *slices)

    def _started(
        self, work: Callable[[Sequence[Item]], list[Decoded]], *slices: Sequence[Item]
    ) -> list[Future[list[Decoded]]]:
        with _clean_start():
            return [self._workers().submit(work, part) for part in slices]

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._pool = ProcessPoolExecutor(self.workers, context, _begin, (self.reader,))
        return self._pool

    def _close(self, *, wait: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None
