"""Ctrl-C, and a scheduler's SIGTERM, while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupted", "uninterrupted"]


def interrupted(number: int, _: Any) -> None:
    """Handle a signal as Ctrl-C is handled."""
    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the first Ctrl-C or SIGTERM until the block has ended; a second one is heard at once.

    A signal that is ignored, or that ends the process unasked, is left as it is.
    """
    if threading.current_thread() is not threading.main_thread():  # no other is ever interrupted
        yield
        return
    told: list[int] = []

    def hold(number: int, _: Any) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: handler for number, handler in before.items() if callable(handler)}
    for number in heard:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    if told:
        signal.raise_signal(told[0])
