"""Choose a model: embedded, named when the app was started, or the visitor's own."""

from __future__ import annotations

import streamlit as st

from sightline.app.settings import settings
from sightline.app.subject import Chosen
from sightline.models.load import load

__all__ = ["chosen_model", "model_named", "model_names"]

EMBEDDED = {
    "demo/honest": "a small CNN that looks at the shape",
    "demo/cheating": "the same CNN, trained where a mark gave the answer away",
    "demo/vit": "a small vision transformer",
}
_MOST_KEPT = 6


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner="Loading the model …")
def _loaded(name: str) -> Chosen:
    model = load(name, labels=settings().labels if name in settings().models else None)
    return Chosen(model, f"{name} {model.weights_hash}")


def model_names() -> list[str]:
    """Return the models that all can choose."""
    return [*settings().models, *EMBEDDED]


def model_named(name: str) -> Chosen:
    """Return one of `model_names`. Raises ModelError where it cannot be loaded."""
    return _loaded(name)


def chosen_model() -> Chosen:
    """Draw the choice of a model and return it."""
    name = st.selectbox("Model", model_names(), key="model", bind="query-params", on_change=_other_model)
    st.caption(EMBEDDED.get(name, ""))
    return _loaded(name)


def _other_model() -> None:
    """Ask again for the most probable class: another model may have others."""
    st.session_state["target"] = "top1"
