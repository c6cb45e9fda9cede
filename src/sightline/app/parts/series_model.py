"""Choose a model of series: the embedded one, or one that was named when the app was started."""

from __future__ import annotations

import streamlit as st

from sightline.app.catalogue import Entry, named
from sightline.app.subject import Chosen
from sightline.errors import SightlineError

__all__ = ["chosen_series_model"]

EMBEDDED = "demo/mnist1d"
_WORDS = "three convolutions that name the digit of a series of 40 points; right for 88 of 100 test series"


def chosen_series_model() -> Chosen:
    """Draw the choice of a model and return it."""
    entries = {EMBEDDED: Entry(EMBEDDED, EMBEDDED), **_given()}
    name = st.selectbox("Model", list(entries), key="series_model", bind="query-params", on_change=_other_model)
    chosen = entries[name].load()
    st.caption(f"{name}: {_WORDS}" if name == EMBEDDED else _takes(chosen))
    return chosen


def _given() -> dict[str, Entry]:
    """Return the models of series that the app was started with; those that cannot be loaded are none."""
    found = {}
    for entry in named():
        try:
            if entry.load().model.input_dims == 1:
                found[entry.shown] = entry
        except SightlineError:
            continue  # it is offered on the other pages, which say what is wrong with it
    return found


def _takes(chosen: Chosen) -> str:
    size, channels = chosen.model.input_size, chosen.model.preprocessing.channels
    points = f"of {size[0]} points" if size else "of any length that fits its layers"
    return f"takes series {points}, {channels} channel{'s' * (channels != 1)}"


def _other_model() -> None:
    """Ask again for the most probable class: another model may have others."""
    st.session_state["series_target"] = "top1"
