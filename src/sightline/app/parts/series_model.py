"""Choose a model of series: the embedded one, or one that was named when the app was started."""

from __future__ import annotations

import streamlit as st

from sightline.app.settings import settings
from sightline.app.subject import Chosen
from sightline.errors import SightlineError
from sightline.models.load import load

__all__ = ["chosen_series_model"]

EMBEDDED = "demo/mnist1d"
_WORDS = "three convolutions that name the digit of a series of 40 points; right for 88 of 100 test series"


def chosen_series_model() -> Chosen:
    """Draw the choice of a model and return it."""
    names = [EMBEDDED, *_given()]
    name = st.selectbox("Model", names, key="series_model", bind="query-params", on_change=_other_model)
    chosen = _loaded(name)
    st.caption(f"{name}: {_WORDS}" if name == EMBEDDED else _takes(chosen))
    return chosen


def _given() -> list[str]:
    """Return the models of series that the app was started with; those that cannot be loaded are none."""
    found = []
    for name in settings().models:
        try:
            if _dims(name) == 1:
                found.append(name)
        except SightlineError:
            continue  # it is offered on the other pages, which say what is wrong with it
    return found


@st.cache_resource(show_spinner="Looking which models take series …")
def _dims(name: str) -> int:
    return load(name).input_dims


@st.cache_resource(max_entries=6, show_spinner="Loading the model …")
def _loaded(name: str) -> Chosen:
    model = load(name, labels=settings().labels if name != EMBEDDED else None)
    return Chosen(model, f"{name} {model.weights_hash}")


def _takes(chosen: Chosen) -> str:
    size, channels = chosen.model.input_size, chosen.model.preprocessing.channels
    points = f"of {size[0]} points" if size else "of any length that fits its layers"
    return f"takes series {points}, {channels} channel{'s' * (channels != 1)}"


def _other_model() -> None:
    """Ask again for the most probable class: another model may have others."""
    st.session_state["series_target"] = "top1"
