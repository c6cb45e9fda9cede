"""The best classes as bars, and the class that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from sightline.app.parts.bars import bars
from sightline.app.subject import Chosen
from sightline.explanation import Prediction

__all__ = ["chosen_class"]

BEST = "top1"


def chosen_class(chosen: Chosen, predictions: Sequence[Prediction], key: str = "target", bars_key: str = "bars") -> str:
    """Draw the best classes, let one of all be chosen, and return it: its index, or top1."""
    labels = {str(p["index"]): p["label"] for p in predictions} | {
        str(i): label for i, label in enumerate(chosen.model.labels)
    }
    best = predictions[0]
    above = st.container()
    target = st.selectbox(
        "Class to explain",
        [BEST, *labels],
        format_func=lambda t: f"the most probable ({best['label']})" if t == BEST else f"{labels[t]} ({t})",
        key=key,
        bind="query-params",
        help="Click a bar above, or type to search all classes.",
    )
    with above:
        st.markdown("**The model's best classes**")
        bars(
            predictions,
            best["index"] if target == BEST else int(target),
            key=bars_key,
            on_pick=partial(_picked, key, bars_key),
        )
    return target


def _picked(key: str, bars_key: str) -> None:
    st.session_state[key] = str(st.session_state[bars_key]["picked"])
