"""Check: three tests that try to catch a map lying."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from sightline.app.parts.classes import chosen_class
from sightline.app.parts.curves import changed_step_by_step
from sightline.app.parts.methods import asked_method
from sightline.app.parts.model import chosen_model
from sightline.app.parts.picture import chosen_picture
from sightline.app.parts.randomise import randomised
from sightline.app.parts.trust import trust_cards
from sightline.app.parts.viewer import Seen, viewer
from sightline.app.parts.work import told
from sightline.app.subject import Asked, Chosen, Subject, predicted
from sightline.evaluation.asked import CONTROLS
from sightline.methods import METHODS

__all__ = ["page"]

_TABS = ("Trust card", "Randomise the model", "Delete and insert")


def page() -> None:
    """Draw the page."""
    with st.sidebar:
        subject, chosen = chosen_picture(), chosen_model()
        asked = asked_method(chosen)
        control = _control()
    st.title("Can this map be believed?")
    st.caption("A map always looks convincing. These three tests try to catch it out.")
    left, right = st.columns([1, 3], gap="medium")
    with left:
        target = _asked_class(subject, chosen)
    with right:
        _tests(chosen, subject, replace(asked, target=target), control)


def _control() -> str:
    found = st.selectbox(
        "Control beside it",
        ["edges", *(c for c in CONTROLS if c != "edges")],
        key="control",
        bind="query-params",
        help="A map that does not look at the model at all. What it passes is no achievement.",
    )
    st.caption(METHODS[found].summary)
    return found


def _asked_class(subject: Subject, chosen: Chosen) -> str:
    viewer([Seen("Photo", subject.image, f"The picture: {subject.name}")], key="photo", label="The photo", most=420)
    return chosen_class(chosen, predicted(chosen, subject))


def _tests(chosen: Chosen, subject: Subject, asked: Asked, control: str) -> None:
    """Draw the chosen test, and that one only."""
    beside = Asked(control, target=asked.target, output=asked.output, seed=asked.seed)
    card, shuffle, curves = st.tabs(_TABS, key="test", on_change="rerun", bind="query-params")
    if card.open:
        with card:
            trust_cards(chosen, subject, [asked, beside])
    if shuffle.open:
        with shuffle, told():
            randomised(chosen, subject, asked, beside)
    if curves.open:
        with curves, told():
            changed_step_by_step(chosen, subject, asked, beside)
