"""Work in the page: progress while it lasts, a button that stops it, and errors as sentences."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from sightline.app.turns import TURNS
from sightline.errors import RefusedError, SightlineError

__all__ = ["plain", "stoppable", "told"]

_LOG = logging.getLogger("sightline")
_SECONDS_BEFORE = 0.4
_SECONDS_BETWEEN = 0.2


@contextmanager
def told() -> Iterator[None]:
    """Show what goes wrong in the block as a sentence on the page, and go on below it."""
    try:
        yield
    except RefusedError as error:
        st.info(f"Refused: {plain(str(error))}", icon=":material/info:")
    except SightlineError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except Exception as error:  # noqa: BLE001  a fault of ours: a sentence here, the traceback in the terminal
        _LOG.exception("a page failed")
        st.error(
            f"This page failed, which it should not ({type(error).__name__}). Change what is chosen, or load it again; "
            "whoever runs the app finds the reason in its terminal.",
            icon=":material/error:",
        )


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: names of files and classes are anybody's, and may hold links."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:&])", r"\\\1", text)


def stoppable(what: str, key: str, work: Callable[[Callable[[int], None]], object], total: int | None = None) -> bool:
    """Do the work while its passes are counted on the page, with a button to stop it; say whether it was done.

    ``total`` is about how many passes there will be, where that is known.
    Stopping is Streamlit's own: a click starts the script again, which ends this run at its next count.
    """
    stopped: set[str] = st.session_state.setdefault("stopped", set())
    place = st.empty()
    if key in stopped:
        with place.container(horizontal=True, vertical_alignment="center"):
            st.write(f"{what} was stopped.")
            st.button("Go on", key=f"go-{key}", on_click=stopped.discard, args=(key,))
        return False
    work(_counter(place, what, key, stopped, total))
    place.empty()
    return True


def _counter(place: Any, what: str, key: str, stopped: set[str], total: int | None) -> Callable[[int], None]:
    started = shown = time.monotonic()
    count, line = 0, None

    def tick(passes: int) -> None:
        nonlocal count, line, shown
        TURNS.give_way()
        count, now = count + passes, time.monotonic()
        if now - started < _SECONDS_BEFORE or now - shown < _SECONDS_BETWEEN:
            return
        shown = now
        if line is None:
            with place.container(horizontal=True, vertical_alignment="center"):
                line = st.empty()
                st.button("Stop", key=f"stop-{key}", on_click=stopped.add, args=(key,))
        of = f" of about {total:,}" if total and count <= total else ""
        line.markdown(f":material/hourglass_top: {what}: {count:,}{of} passes, {now - started:.0f} s")

    return tick
