"""The best classes as bars, and the class that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from sightline.app.parts.bars import bars
from sightline.app.parts.share import unknown_in_link
from sightline.app.subject import Chosen
from sightline.explanation import Prediction

__all__ = ["BEST", "NO_OTHER", "chosen_class", "chosen_contrast"]

BEST = "top1"
NO_OTHER = "no other class"


def chosen_class(
    chosen: Chosen, predictions: Sequence[Prediction], *, key: str = "target", with_bars: bool = True
) -> str:
    """Draw the best classes as bars, where wanted, let one of all be chosen, and return it: its index, or top1."""
    labels = _labels(chosen, predictions)
    best, texts = (
        predictions[0],
        {BEST: "the most probable one", **{t: f"{label} ({t})" for t, label in labels.items()}},
    )
    unknown_in_link(key, texts.values(), "class")
    above = st.container()
    target = st.selectbox(
        "Class to explain",
        [BEST, *labels],
        format_func=texts.__getitem__,
        key=key,
        bind="query-params",
        help="Click a bar above, or type to search all classes." if with_bars else "Type to search all classes.",
    )
    if key == "target":
        st.session_state["last_class"] = None if target == BEST else labels[target]  # for pages that begin with it
    if not with_bars:
        return target
    with above:
        st.markdown("**The model's best classes**")
        bars(
            predictions,
            best["index"] if target == BEST else int(target),
            key=f"bars-{key}",
            on_pick=partial(_picked, key),
        )
    return target


def chosen_contrast(chosen: Chosen, predictions: Sequence[Prediction], target: str) -> str | None:
    """Draw the choice of a class to set the explained one against, and return its index, or None for no other."""
    labels = _labels(chosen, predictions)
    explained = str(predictions[0]["index"]) if target == BEST else target
    found = st.selectbox(
        "Rather than",
        [NO_OTHER, *(i for i in labels if i != explained)],
        format_func=lambda i: i if i == NO_OTHER else f"{labels[i]} ({i})",
        key="contrast",
        bind="query-params",
        help="Why this class and not that one: what speaks for the difference of their scores.",
    )
    return None if found == NO_OTHER else found


def _labels(chosen: Chosen, predictions: Sequence[Prediction]) -> dict[str, str]:
    best = {str(p["index"]): p["label"] for p in predictions}
    return best | {str(i): label for i, label in enumerate(chosen.model.labels)}


def _picked(key: str) -> None:
    st.session_state[key] = str(st.session_state[f"bars-{key}"]["picked"])
