"""Trust cards beside each other: a map's, and that of a control, question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import streamlit as st

from sightline.app.parts.explaining import explained_here
from sightline.app.parts.looks import Looks
from sightline.app.parts.maps import seen
from sightline.app.parts.viewer import legend_of, viewer
from sightline.app.parts.work import told
from sightline.app.subject import Asked, Chosen, Subject, explained
from sightline.evaluation.card import Answer, TrustCard, Verdict
from sightline.evaluation.checking import HOW
from sightline.explanation import Explanation

__all__ = ["plain_map", "trust_cards"]

_Colour = Literal["blue", "yellow", "orange", "gray"]
_BADGES: Mapping[Verdict, tuple[str, str, _Colour]] = {
    "yes": ("Yes", ":material/check_circle:", "blue"),
    "partly": ("Partly", ":material/contrast:", "yellow"),
    "no": ("No", ":material/cancel:", "orange"),
    "unknown": ("Not checked", ":material/help:", "gray"),
}
_INTRO = (
    "Five questions are put to the map, and the same five to a control: a map made **without looking at the model**. "
    "A good map passes; where the control passes as well, that question alone proves little."
)


def trust_cards(chosen: Chosen, subject: Subject, asked: Sequence[Asked]) -> None:
    """Show the maps at once and their cards, question by question, as each is made; the last asked is the control."""
    st.markdown(_INTRO)
    columns = st.columns(len(asked))
    places = [_mapped(chosen, subject, one, i, columns[i]) for i, one in enumerate(asked)]
    rows, cards = st.empty(), list[tuple[str, TrustCard]]()
    for number, (one, place) in enumerate(zip(asked, places, strict=True)):
        card = _card(chosen, subject, one, f"card-{number}-{one.method}", place) if place is not None else None
        if card is not None:
            cards.append((one.method, card))
            with rows.container():
                _rows(cards)


def _mapped(chosen: Chosen, subject: Subject, asked: Asked, number: int, column: Any) -> Any:
    """Show the map alone, and return the place below it; None where the method is refused."""
    place = None
    with column, st.container(border=True):
        st.markdown(f"**{asked.method}**" + (", the control" if number else ""))
        with told():
            plain_map(explained(chosen, subject, asked), f"trust-{number}")
            place = st.container()
    return place


def plain_map(e: Explanation, key: str) -> None:
    """Show an explanation's map on its photo with its legend."""
    words = f"{e.method} for {e.target.label}"
    viewer(seen(e, Looks())[:1], key=f"viewer-{key}", label=words, legend=legend_of(e.style, None), most=380)


def _card(chosen: Chosen, subject: Subject, asked: Asked, key: str, place: Any) -> TrustCard | None:
    """Make a map's card, or return the one that is remembered, and show its headline."""
    full = replace(asked, check=True)
    with place, told():
        e = explained_here(chosen, subject, full, key, f"Checking {asked.method}")
        if e is not None:
            card = e.check
            st.markdown(f"**{card.headline.partition('? ')[2]}**" if card else "")
            return card
    return None


def _rows(cards: Sequence[tuple[str, TrustCard]]) -> None:
    """Draw question by question what was answered for each map."""
    for number, question in enumerate(HOW):
        with st.container(border=True, gap="small"):
            st.markdown(f"**{question}**")
            st.caption(HOW[question])
            for column, (method, card) in zip(st.columns(max(2, len(cards))), cards, strict=False):
                with column:
                    _answered(method, card.answers[number])


def _answered(method: str, answer: Answer) -> None:
    """Draw one answer: sign, word and colour, and the sentence."""
    word, icon, colour = _BADGES[answer.verdict]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(word, icon=icon, color=colour)
        st.markdown(f"`{method}`")
    st.markdown(answer.sentence)
