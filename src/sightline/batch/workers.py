"""Processes that work for this one: each with a line of its own, so that one that is killed harms no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import torch

from sightline.errors import SightlineError
from sightline.paths import why

__all__ = ["Ended", "Worker"]

_STARTING = threading.Lock()


class Ended(Exception):  # noqa: N818  what happened, and not always a mistake
    """The process ended before it had answered."""


class Worker:
    """A process that answers ``work(given, question)``; it is begun with the first question, and again once it ended.

    Ctrl-C is not for it, and it ends with the process that began it, however that ends.
    """

    def __init__(self, work: Callable[[Any, Any], Any], given: Any, preload: Sequence[str] = ()) -> None:
        self.work, self.given, self.preload = work, given, preload
        self.process: BaseProcess | None = None
        self._line: Connection | None = None
        self._closed = False

    def ask(self, question: Any) -> Any:
        """Return the answer. Raises Ended, and SightlineError where no process can be begun."""
        if self._line is None:
            self._begin()
        line = self._line
        try:
            if line is None:
                raise EOFError
            line.send(question)
            return line.recv()
        except (EOFError, OSError):
            self.end()
            raise Ended from None

    def end(self) -> None:
        """End the process at once."""
        process, line, self.process, self._line = self.process, self._line, None, None
        if process is not None:
            process.kill()
            process.join()
        if line is not None:
            line.close()

    def close(self) -> None:
        """End the process at once, also where another thread waits for its answer, and let it not begin again."""
        with _STARTING:
            self._closed = True
            if self.process is not None:
                self.process.kill()  # which is what the one who waits then hears

    def _begin(self) -> None:
        context = multiprocessing.get_context("forkserver")
        with _STARTING, _clean_start():
            if self._closed:
                raise Ended
            context.set_forkserver_preload([*self.preload])
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.work, self.given), daemon=True)
            try:
                process.start()
            except (OSError, EOFError) as error:
                ours.close()
                raise SightlineError(
                    f"a worker process cannot be begun ({why(error)}); raise that limit, or work in this process, with "
                    "--workers 0 (workers=0)."
                ) from None
            finally:
                theirs.close()  # so that its end is heard
            self.process, self._line = process, ours


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


def _serve(line: Connection, work: Callable[[Any, Any], Any], given: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            question = line.recv()
        except EOFError:
            return
        line.send(work(given, question))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
