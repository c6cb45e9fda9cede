"""The Ray engine: units go through a pool of actors, each a local engine in small, on a cluster or here.

A block of the data set is whole units, so that batches are made of the same images as locally, whatever is restarted.
Files are read by our own decoding and not by Ray's readers, which turn no picture as its EXIF says and know no limits.
"""

from __future__ import annotations

import os
import pickle
import platform
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from sightline.batch.cluster import Actors, actors_of, connected
from sightline.batch.decoding import Decoded, Decoders, reader_of
from sightline.batch.feeding import Feeding, fed
from sightline.batch.job import Job
from sightline.batch.local import IsKnown, fresh_of, outcome_of
from sightline.batch.memory import keep_freed_memory
from sightline.batch.rows import Work
from sightline.batch.units import Outcome, Unit
from sightline.errors import ModelError, ParameterError, SightlineError
from sightline.paths import shown

__all__ = ["run_ray"]

_AHEAD = 3  # blocks that an actor has: one is explained, one decoded, one waits
_TRIES = 3  # that a block may take its actor down before the run ends


def run_ray(
    work: Work, units: Iterator[Unit], workers: int | None, address: str | None, is_known: IsKnown
) -> Generator[Outcome]:
    """Yield the outcome of each unit, in their order; units of which all is known at the start are not explained again.

    ``workers`` are actors that explain; None is one for each GPU, or on CPUs up to four on a machine.
    Raises what the local engine does, InputError without Ray or its cluster, ParameterError for no actors.
    """
    with connected(address, workers) as (ray, own):
        actors = actors_of(ray, workers, work.plan.model.device.type, own=own)
        feed = Feeding(ray, units, ahead=(_AHEAD + 1) * actors.count + 2)
        with feed:
            for block in _blocks(ray, work, actors, feed, is_known):
                number, found, seconds = pickle.loads(block)  # noqa: S301 - our own actors' bytes
                for unit, one in zip(feed.done(number, seconds), found, strict=True):  # shorter only by an error
                    if isinstance(one, SightlineError):
                        raise one
                    yield Outcome(unit, *one)


def _blocks(ray: Any, work: Work, actors: Actors, feed: Feeding, is_known: IsKnown) -> Iterator[bytes]:
    """Yield what the actors say of each block, in the blocks' order."""
    sent = ray.put(is_known), _sent(ray, work.job)
    pool = ray.data.ActorPoolStrategy(
        size=actors.count,
        max_tasks_in_flight_per_actor=_AHEAD,
        max_concurrent_calls_per_actor=_AHEAD,
        enable_true_multi_threading=True,
    )
    with ray.data.DataContext.current(_context(ray)):
        given = ray.data.from_items([{"units": b""}]).map_batches(
            partial(fed, feed.actor), batch_format="pyarrow", num_cpus=0
        )
        found = given.map_batches(
            Explainer,
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=actors.cpus,
            num_gpus=actors.gpus or None,
            fn_constructor_args=(actors, os.getcwd(), feed.actor, *sent),
        )
    try:
        for table in found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from (one for one in table["outcomes"].to_pylist() if one)
    except ray.exceptions.RayTaskError:
        raise  # what no one foresaw in an actor: where it arose is wanted
    except ray.exceptions.RayError as error:
        raise SightlineError(f"Ray gave up ({str(error).splitlines()[0]}); go on with --resume.") from error


def _sent(ray: Any, job: Job) -> Any:
    """Put a job where every actor finds it.

    Raises ParameterError where it cannot be pickled.
    """
    try:
        return ray.put(job)
    except (TypeError, pickle.PicklingError, AttributeError) as error:
        why = str(error).splitlines()[0]
        raise ParameterError(f"{job.name} cannot be sent to other processes ({why}); name the model's file.") from None


def _context(ray: Any) -> Any:
    """Return settings for blocks that are left as they are, in order, without bars."""
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


class Explainer:
    """An actor: the model, opened once, and processes that decode for it."""

    def __init__(self, actors: Actors, folder: str, feed: Any, known: Any, sent: Any) -> None:
        import ray

        keep_freed_memory()
        if os.path.isdir(folder):
            os.chdir(folder)  # a model's file may be named from there
        self.threads, self.feed, self.is_known = actors.threads, feed, ray.get(known)
        self.decoding, self.explaining = threading.Lock(), threading.Lock()
        self.error: SightlineError | None = None
        try:
            job: Job = ray.get(sent)
            self.work = Work.of(job, job.open_model())
            self.decoders = Decoders(reader_of(self.work.plan.model), actors.decoders)
        except SightlineError as error:
            self.error = error

    def __call__(self, block: pa.Table) -> pa.Table:
        """Explain a block; an error that ends the run is handed on as it is, without where in Ray it arose."""
        said = block["units"][0].as_py()
        return pa.table({"outcomes": pa.array([self._explained(said) if said else b""], pa.large_binary())})

    def _explained(self, said: bytes) -> bytes:
        number, units = pickle.loads(said)  # noqa: S301 - our own driver's bytes
        with self.decoding:
            images = [] if self.error else list(self.decoders.map(iter([unit.items for unit in units])))
        with self.explaining:
            began = time.perf_counter()
            found = list(self._outcomes(number, units, images))
            return pickle.dumps((number, found, time.perf_counter() - began))

    def _outcomes(
        self, number: int, units: Sequence[Unit], images: Sequence[list[Decoded]]
    ) -> Iterator[tuple[Any, Any] | SightlineError]:
        """Yield what is found for each unit, until an error that ends the run."""
        try:
            self._refuse(number, units)
            torch.set_num_threads(self.threads)  # of this thread alone: each call may have another
            for unit, decoded in zip(units, images, strict=True):
                found = outcome_of(self.work, unit, decoded, self._fresh(unit, decoded))
                yield found.contents, found.rows
        except SightlineError as error:
            yield error

    def _refuse(self, number: int, units: Sequence[Unit]) -> None:
        """Raise what no image could make right."""
        import ray

        if self.error is not None:
            raise self.error
        if not {ask for unit in units for ask in unit.asks} <= {ask.hash for ask in self.work.asks}:
            raise ModelError(f"{self.work.job.name}: other weights or preprocessing on {platform.node()} than here.")
        if ray.get(self.feed.tried.remote(number)) > _TRIES:
            more = sum(len(unit.items) for unit in units) - 1
            raise SightlineError(
                f"{shown(units[0].items[0].uri)} and the {more} after it: explaining them ended the process "
                f"that did it, {_TRIES} times; look at its memory, and take a smaller --batch-size."
            )

    def _fresh(self, unit: Unit, images: Sequence[Decoded]) -> list[Decoded]:
        """Leave out what was known when the run began only where no batch is cut by it: its rows would change."""
        known = all(self.is_known(str(one.hash), unit.asks) for one in images if one.error is None)
        return fresh_of(unit, images, self.is_known if known else lambda content, asks: False)
