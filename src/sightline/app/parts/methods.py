"""Choose methods, grouped by family with a line each, and set their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import streamlit as st

from sightline.app.parts.controls import changed
from sightline.app.parts.share import unknown_in_link
from sightline.app.subject import Asked, Chosen
from sightline.errors import LayerError
from sightline.methods import METHODS, Method

__all__ = ["FAMILIES", "asked_method", "asked_methods", "by_family"]

FAMILIES = {
    "cam": "Class activation maps: which places of a layer speak for the class",
    "gradient": "Gradients: which pixels the score is sensitive to",
    "relevance": "Relevance: the score handed back, layer by layer, to the pixels",
    "attention": "Attention: where a transformer's tokens look",
    "perturbation": "Perturbation: what happens when parts are covered",
    "optimization": "Optimisation: the mask that keeps the answer, found step by step",
    "control": "Controls: maps that know nothing, to compare with",
}
_DEFAULT = ("grad_cam",)
_AUTOMATIC = "automatic"


def by_family() -> dict[str, list[Method]]:
    """Return the methods of each family, in the order of the families."""
    order = list(FAMILIES)
    listed = sorted(METHODS.values(), key=lambda m: order.index(m.family))
    return {family: list(found) for family, found in groupby(listed, key=lambda m: m.family)}


def asked_methods(chosen: Chosen, default: Sequence[str] = _DEFAULT, left_out: Sequence[str] = ()) -> list[Asked]:
    """Draw the choice of methods and their parameters; return what is asked, a method each."""
    names = [m.name for found in by_family().values() for m in found if m.name not in left_out]
    unknown_in_link("method", names, "method")
    picked = st.multiselect(
        "Methods",
        names,
        default=default,
        key="method",
        bind="query-params",
        placeholder="Choose methods",
        select_all=False,
    )
    with st.popover("All methods, with a line each", icon=":material/list:", width="stretch"):
        _browse(names, picked)
    common = _common(chosen)
    return [Asked(name, parameters=_parameters(METHODS[name]), **common) for name in picked]


def asked_method(chosen: Chosen) -> Asked:
    """Draw the choice of one method and its parameters; return what is asked."""
    names = [m.name for found in by_family().values() for m in found]
    unknown_in_link("map", names, "method")
    name = st.selectbox("Method", names, key="map", bind="query-params")
    common = _common(chosen)
    return Asked(name, parameters=_parameters(METHODS[name]), **common)


def _browse(names: Sequence[str], picked: Sequence[str]) -> None:
    for family, found in by_family().items():
        st.markdown(f"**{FAMILIES[family]}**")
        for m in (m for m in found if m.name in names):
            key = f"browse-{m.name}"
            st.session_state[key] = m.name in picked
            st.checkbox(f"`{m.name}` {m.summary}", key=key, on_change=_toggled, args=(m.name, picked))


def _toggled(name: str, picked: Sequence[str]) -> None:
    st.session_state["method"] = [m for m in picked if m != name] if name in picked else [*picked, name]


def _parameters(method: Method) -> tuple[tuple[str, Any], ...]:
    with st.expander(f"{method.name}: parameters", icon=":material/tune:"):
        st.caption(f"{method.text}\n\n*{method.cite}*")
        return changed(method.name, method.parameters.values())


def _draw_automatic(chosen: Chosen) -> None:
    """Name the layer that is read unless another is chosen; where there is none, each method says so by itself.

    It is no part of the option: another model would not have that one, and the address would ask for it all the same.
    """
    with suppress(LayerError):
        st.caption(f"{_AUTOMATIC}: `{chosen.model.default_layer()}`")


def _common(chosen: Chosen) -> dict[str, Any]:
    """Draw what is asked of every method alike."""
    layers = [_AUTOMATIC, *(layer.name for layer in chosen.model.layers())]
    unknown_in_link("layer", layers, "layer")
    with st.expander("Layer, score and seed", icon=":material/tune:"):
        layer = st.selectbox(
            "Layer that class activation maps read",
            layers,
            key="layer",
            bind="query-params",
            help="Late layers know what, early ones know where. The automatic one is the last that still has places.",
        )
        _draw_automatic(chosen)
        output = st.segmented_control(
            "Score that is explained",
            ["logit", "probability", "log_probability"],
            default="logit",
            required=True,
            key="output",
            bind="query-params",
            help="The logit is the raw score of the class; the probability also depends on all other classes.",
        )
        seed = st.number_input("Seed of everything random", 0, 2**31, 0, key="seed", bind="query-params")
    return {"layer": None if layer == _AUTOMATIC else layer, "output": output, "seed": seed}
