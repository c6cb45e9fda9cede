"""Explain: why did this model say that of this picture?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from sightline.app.pages import ask, check
from sightline.app.parts.classes import chosen_class, chosen_contrast
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.looks import Looks, chosen_looks
from sightline.app.parts.maps import map_card
from sightline.app.parts.methods import asked_methods
from sightline.app.parts.model import chosen_model
from sightline.app.parts.picture import chosen_picture
from sightline.app.parts.share import phone_hint, share
from sightline.app.parts.viewer import Seen, viewer
from sightline.app.parts.work import told
from sightline.app.subject import Asked, Chosen, Subject, predicted

__all__ = ["page"]

_NEXT = (
    (check.page, "Can it be believed?", ":material/verified:"),
    (ask.page, "Try it", ":material/quiz:"),
)


def page() -> None:
    """Draw the page."""
    st.title("Why did the model say that?")
    phone_hint()
    with st.sidebar:
        subject, chosen = chosen_picture(), chosen_model()
        asked = asked_methods(chosen)
        share()
    left, right = st.columns([1, 3], gap="medium")
    with left:
        target, contrast = _asked_classes(subject, chosen)
    with right:
        looks = chosen_looks()
        for start in range(0, len(asked), 2):  # row by row, so that a phone and a screen reader keep the order
            columns = st.columns(2) if len(asked) > 1 else [st.container()]
            for column, one in zip(columns, asked[start : start + 2], strict=False):
                with column, told():
                    _explained(subject, chosen, replace(one, target=target, contrast=contrast), looks)
        if not asked:
            st.info("Choose a method on the left.", icon=":material/arrow_back:")


def _asked_classes(subject: Subject, chosen: Chosen) -> tuple[str, str | None]:
    viewer([Seen("Photo", subject.image, f"The picture: {subject.name}")], key="photo", label="The photo", most=420)
    predictions = predicted(chosen, subject)
    target = chosen_class(chosen, predictions)
    return target, chosen_contrast(chosen, predictions, target)


def _explained(subject: Subject, chosen: Chosen, asked: Asked, looks: Looks) -> None:
    key = asked.method
    e = explained_here(chosen, subject, asked, key)
    if e is None:
        return
    map_card(e, looks, key)
    with st.container(horizontal=True):
        for page, words, icon in _NEXT:
            if st.button(words, key=f"{words}-{key}", type="tertiary", icon=icon):
                place = st.Page(page, url_path=page.__module__.rpartition(".")[2])
                st.switch_page(place, query_params={"map": asked.method})
