"""From an item to what the model takes, in worker processes: in order, with a bounded number under way."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

import numpy as np
import torch

from sightline.arrays import read_upload as read_array
from sightline.batch.content import picture_of
from sightline.batch.names import content_digest
from sightline.batch.sources import Item
from sightline.batch.workers import Ended, Worker
from sightline.errors import ImageError, SightlineError
from sightline.geometry import Geometry
from sightline.models.model import Model
from sightline.paths import shown, why
from sightline.samples import Sample, sample_of_signal

__all__ = ["Decoded", "Decoders", "decode", "reader_of"]

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
    digest = content_digest(data)
    try:
        return _prepared(reader, item, data, digest)
    except ImageError as error:
        return Decoded(item, digest, error=str(error))
    except Exception as error:  # noqa: BLE001  one image must not end the run
        return Decoded(
            item, digest, error=f"{shown(item.uri)} cannot be prepared ({type(error).__name__}: {why(error)})."
        )


def _prepared(reader: Model, item: Item, data: bytes, digest: str) -> Decoded:
    said = shown(item.uri)
    if reader.input_dims != 2:
        values = read_array(io.BytesIO(data), said, reader.max_pixels)
        found = sample_of_signal(reader, values, 0)
        return Decoded(item, digest, found.x.numpy(), None, found.how)
    x, geometry = reader.prepare(picture_of(data, digest, said, reader.preprocessing.channels, reader.max_pixels))
    return Decoded(item, digest, x.numpy(), geometry, reader.preprocessing.describe())


def _decode_all(reader: Model, items: Sequence[Item]) -> list[Decoded]:
    return [decode(reader, item) for item in items]


class Decoders:
    """Worker processes that decode; none of them (``workers`` 0) decodes here."""

    def __init__(self, reader: Model, workers: int) -> None:
        self.reader = reader
        self.workers = [Worker(_decode_all, reader, [__name__]) for _ in range(workers)]
        self._free: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(max(1, workers), "decoding")  # each waits for a worker's answer
        for worker in self.workers:
            self._free.put(worker)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        self._threads.shutdown(cancel_futures=True)
        for worker in self.workers:
            worker.end()

    def map(self, units: Iterator[list[Item]]) -> Iterator[list[Decoded]]:
        """Yield the units decoded, in their order; at most two of them beyond the one that is asked for are begun.

        Raises SightlineError where no worker can be had.
        """
        if not self.workers:
            yield from (_decode_all(self.reader, unit) for unit in units)
            return
        under_way: deque[list[Future[list[Decoded]]]] = deque()
        for unit in units:
            slices = [unit[i : i + _SLICE] for i in range(0, len(unit), _SLICE)]
            under_way.append([self._threads.submit(self._slice, part) for part in slices])
            if len(under_way) > 2:
                yield _results(under_way.popleft())
        while under_way:
            yield _results(under_way.popleft())

    def _slice(self, items: Sequence[Item]) -> list[Decoded]:
        worker = self._free.get()
        try:
            found: list[Decoded] = worker.ask(items)
        except Ended:
            found = [self._alone(worker, item) for item in items]
        finally:
            self._free.put(worker)
        return found

    def _alone(self, worker: Worker, item: Item) -> Decoded:
        """Decode one item with no other, so that a worker that is killed by it is known to be."""
        for _ in range(2):
            try:
                found: list[Decoded] = worker.ask([item])
                return found[0]
            except Ended:
                continue
        _refuse_no_worker(worker)
        return Decoded(item, None, error=f"{shown(item.uri)}: {_KILLED}.")


def _results(futures: Sequence[Future[list[Decoded]]]) -> list[Decoded]:
    return [one for future in futures for one in future.result()]


def _refuse_no_worker(worker: Worker) -> None:
    """Raise where a worker ends with nothing to do: it was not an image that ended it."""
    try:
        worker.ask([])
    except Ended:
        raise SightlineError(
            "the worker processes end as soon as they have begun; decode in this process, with --workers 0 (workers=0)."
        ) from None
