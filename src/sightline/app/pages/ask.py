"""Ask: an explanation is a claim, and this tests it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from sightline.app.asking import Trial, answer_known, answered, changed_subject
from sightline.app.parts.changes import changed_bars, elsewhere_chart, outlined, points
from sightline.app.parts.classes import chosen_class
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.looks import Looks
from sightline.app.parts.maps import seen
from sightline.app.parts.methods import asked_method
from sightline.app.parts.model import chosen_model
from sightline.app.parts.picture import chosen_picture
from sightline.app.parts.regions import FILL_NAMES, How, chosen_how, chosen_region
from sightline.app.parts.viewer import Seen, legend_of, viewer
from sightline.app.parts.work import stoppable, told
from sightline.app.subject import Asked, Chosen, Subject, predicted
from sightline.covering import RegionAnswer, heat_share, percent
from sightline.explanation import Explanation

__all__ = ["page"]

_PLACES = 8
_SHOWN = 6
_TRIED = "tried"


def page() -> None:
    """Draw the page."""
    with st.sidebar:
        subject, chosen = chosen_picture(), chosen_model()
        asked = None
        with told():
            asked = asked_method(chosen)
    st.title("Is the explanation true? Try it.")
    st.markdown(
        "A map claims that a region matters. Cover the region, and see whether the model's answer changes; then see "
        "whether any other region of that size would have done the same."
    )
    if asked is not None:
        with told():
            _asked(subject, chosen, asked)


def _asked(subject: Subject, chosen: Chosen, asked: Asked) -> None:
    left, right = st.columns([5, 6], gap="large")
    with left:
        target = chosen_class(chosen, predicted(chosen, subject), with_bars=False)
        asked = replace(asked, target=target)
        e = explained_here(chosen, subject, asked, "ask-before")
        if e is None:
            return
        box = chosen_region(e, [Seen("Photo", subject.image, f"The picture: {subject.name}"), _map(e, "Map")])
        how = chosen_how()
    with right:
        if box is None:
            st.info("The map says that nothing speaks for this class; draw a box of your own.", icon=":material/info:")
            return
        trial = Trial(box, target, how.fill, how.reveal)
        answer = answered(chosen, subject, trial)
        verdict = st.container()
        _result(answer, chosen)
        compared = _control(subject, chosen, replace(trial, draws=_PLACES)) or answer
        with verdict:  # said when the other places are known too: a fall alone proves little
            st.markdown(f"#### {compared.words}")
            _claim(compared, e)
    _maps(subject, chosen, asked, answer, e)
    _history(subject, chosen, answer, how)


def _map(e: Explanation, name: str) -> Seen:
    return replace(seen(e, Looks())[0], name=name)


def _result(answer: RegionAnswer, chosen: Chosen) -> None:
    picture, bars = st.columns([1, 2], gap="medium")
    with picture:
        what = "Only the region is left" if answer.reveal else "The region is covered"
        st.image(answer.image, "What the model is given now", width="stretch", alt=f"The picture. {what}.")
    with bars:
        changed_bars(answer, chosen.model)
        st.caption("Grey: before. Orange: after. The change is in percentage points.")


def _claim(answer: RegionAnswer, e: Explanation) -> None:
    """Say what the map claimed of the region, and whether that is borne out."""
    left, top, right, bottom = answer.box
    area = (right - left) * (bottom - top) / (answer.image.width * answer.image.height)
    share = heat_share(e, answer.box)
    if share != share:
        return
    claims = share > 1.5 * area
    borne = "borne out" if claims == (answer.matters and answer.special is not False) else "**not** borne out"
    st.markdown(
        f"The map puts {percent(share)} of its weight on this {percent(area)} of the picture, so it says that the "
        f"region {'matters' if claims else 'hardly matters'}. Here that is {borne}."
    )


def _control(subject: Subject, chosen: Chosen, trial: Trial) -> RegionAnswer | None:
    """Show what the same box does elsewhere and return the answer with it, None where it was stopped."""
    st.markdown("##### Would any other place have done the same?")
    if not answer_known(chosen, subject, trial) and not stoppable(
        "The other places", "ask-places", lambda tick: answered(chosen, subject, trial, tick)
    ):
        return None
    found = answered(chosen, subject, trial)
    st.markdown(found.control)
    if not len(found.others):
        return found
    where, chart = st.columns([1, 2], gap="medium")
    with where:
        alt = f"The picture with the region and {len(found.places)} other boxes of its size"
        st.image(outlined(subject.image, found.box, found.places), "Orange: the region. Blue: elsewhere", alt=alt)
    with chart:
        elsewhere_chart(found, "ask-elsewhere")
    return found


def _maps(subject: Subject, chosen: Chosen, asked: Asked, answer: RegionAnswer, e: Explanation) -> None:
    st.subheader("Where does the map point now?")
    st.caption(
        f"The same method, {asked.method}, for the same class on the changed picture. Each map has its own scale."
    )
    again = replace(asked, target=str(answer.index))
    with told():
        now = explained_here(chosen, changed_subject(subject, answer), again, "ask-after")
        if now is not None:
            pictures = [_map(e, "Before"), _map(now, "After")]
            legend = legend_of(e.style, None)
            viewer(pictures, key="ask-maps", label="The map before and after", legend=legend, start="Side by side")


def _history(subject: Subject, chosen: Chosen, answer: RegionAnswer, how: How) -> None:
    tried: list[dict[str, Any]] = st.session_state.setdefault(_TRIED, [])
    width, height = answer.image.size
    left, top, right, bottom = answer.box
    shares = (left / width, top / height, (right - left) / width, (bottom - top) / height)
    row = {
        "Class": answer.label,
        "Before": percent(answer.was),
        "After": percent(answer.now),
        "Change": points(answer.change),
        "Done": "shown alone" if how.reveal else "covered",
        "Hidden by": FILL_NAMES[how.fill],
        "Box: left, top, wide, high (%)": " ".join(f"{100 * share:.0f}" for share in shares),
        "Picture": subject.name,
        "Model": chosen.model.name,
    }
    if row not in tried:
        tried.insert(0, row)
        del tried[_SHOWN:]
    st.subheader("What you tried")
    st.table(tried)
