"""Ctrl-C while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the first Ctrl-C until the block has ended; a second one is heard at once."""
    if threading.current_thread() is not threading.main_thread():  # no other is ever interrupted
        yield
        return
    told: list[int] = []

    def hold(number: int, _: Any) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
    if told:
        signal.raise_signal(signal.SIGINT)
