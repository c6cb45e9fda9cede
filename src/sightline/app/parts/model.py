"""Choose a model: embedded, on this machine, named when the app was started, or the visitor's own."""

from __future__ import annotations

import streamlit as st

from sightline.app.catalogue import RANDOM, Entry, architectures, catalogue, random_entry
from sightline.app.parts.another import another_model
from sightline.app.parts.classes import BEST, NO_OTHER
from sightline.app.parts.prepared import prepared
from sightline.app.parts.share import unknown_in_link
from sightline.app.subject import Chosen
from sightline.app.uploads import belongings
from sightline.errors import ModelError

__all__ = ["chosen_model", "model_named", "model_names"]


def model_names() -> list[str]:
    """Return what the visitor can choose, the models of their own last: the default stays the same for all."""
    return [*_listed(), *belongings().models]


def model_named(name: str) -> Chosen:
    """Return one of `model_names`. Raises ModelError where it cannot be loaded."""
    own = belongings().models
    return own[name] if name in own else _listed()[name].load()


def chosen_model() -> Chosen:
    """Draw the choice of a model and return it. Raises ModelError where it cannot be loaded."""
    if "next_model" in st.session_state:
        st.session_state["model"] = st.session_state.pop("next_model")
        st.session_state["another"] = False  # it is found, and what was opened to find it is closed
        ask_for_the_best()
    names = model_names()
    unknown_in_link("model", names, "model")
    name = st.selectbox("Model", names, key="model", bind="query-params", on_change=ask_for_the_best) or names[0]
    st.session_state["last_model"] = name  # for pages that begin with it
    place = st.container()
    another_model()
    with place:
        if name in belongings().models:
            st.button("Forget my models", on_click=_forget, icon=":material/delete:", key="forget_models")
        else:
            st.caption(_listed()[name].line)
        return prepared(name, _for_pictures(model_named(name)))


def _for_pictures(chosen: Chosen) -> Chosen:
    if chosen.model.input_dims != 2:
        kind = "series" if chosen.model.input_dims == 1 else "volumes"
        raise ModelError(f"{chosen.model.name} takes {kind}, not pictures; choose another model, or the page Signals.")
    return chosen


def _forget() -> None:
    belongings().forget_models()
    st.session_state["model"] = next(iter(catalogue()))
    ask_for_the_best()


def ask_for_the_best() -> None:
    """Ask again for the most probable class: another model may have others."""
    st.session_state["target"] = BEST
    st.session_state["contrast"] = NO_OTHER


def _listed() -> dict[str, Entry]:
    """Return the models of all, and those with random weights that this visitor asked for or that the URL names."""
    asked: list[str] = st.session_state.setdefault("random_models", [])
    wanted = st.query_params.get("model", "")
    name = wanted.removesuffix(RANDOM)
    if name != wanted and name not in asked and name in architectures():
        asked.append(name)
    return {**catalogue(), **{entry.shown: entry for entry in map(random_entry, asked)}}
