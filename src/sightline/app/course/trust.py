"""Lesson 9: whether a map can be believed, and what that says of the model."""

from __future__ import annotations

import numpy as np
import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure, positive
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, look, read_more, text
from sightline.app.course.subjects import drawn, model, percent
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.picture import example
from sightline.app.subject import Asked, Chosen, explained
from sightline.explanation import Explanation

__all__ = ["LESSON", "METHODS_TRIED", "carded", "judged"]

SLUG = "trust"
METHODS_TRIED = ("gradient", "grad_cam", "guided_backprop", "edges", "random")
_PICTURE = "ring with a mark"


def _asked(method: str) -> Asked:
    return Asked(method, check=True)


def carded(name: str, method: str) -> Explanation:
    """Return a map of the marked ring with its trust card."""
    return explained(model(name), example(_PICTURE), _asked(method))


def judged(name: str, method: str) -> Verdict:
    """Judge whether the map passes every check and shows a bad reason."""
    e = carded(name, method)
    verdicts = {a.verdict for a in e.check.answers} if e.check else set()
    hottest = np.unravel_index(positive(e).argmax(), e.heatmap.shape)
    if verdicts & {"no", "partly"}:
        return Verdict(False, "This map does not pass all of its checks.")
    if not drawn(_PICTURE).watermark_mask[hottest]:
        return Verdict(False, "This map passes, but it is not hottest on the watermark: its reason is fine.")
    return Verdict(True, "The map passes, and is hottest on the watermark. Believe it, and mend the model.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "You have seen maps that are noisy, coarse, blind, or about something else. So each map has to be examined. "
        "The **trust card** asks five questions, each answered by an experiment: does the map depend on the model "
        "(lesson 7)? On the class (lesson 6)? Do the pixels that it marks matter: does **covering** them lower the "
        "probability more than covering areas of the same shape elsewhere? Is it stable under a little noise? Does it "
        "add up (lesson 5)?",
        "Beside every method stand **controls**, maps that know nothing: edges, the picture's centre, random numbers. "
        "A method that does not beat them has shown nothing.",
    )
    with experiment("a ring with a watermark: choose model and method"):
        name, method = _tried()
    look(
        "The controls `edges` and `random` cannot depend on model or class, and the card says so. Guided "
        "backprop hardly depends on the class either, nor does the size of the honest model's gradient.",
        "A full card means that nothing was found against the map. It is no proof. And it says **nothing about "
        "whether the model is good**: that is a matter of what the map shows.",
    )
    exercise(
        SLUG,
        "Find a map that **passes every check that could be made**, and shows that the **model should not be used**.",
        lambda: judged(name, method),
    )
    _checklist()
    read_more("Adebayo et al. 2018", "Petsiuk et al. 2018 (deletion)", "`explain(check=True)`, `evaluate`, `measure`")


def _checklist() -> None:
    st.markdown("#### For your own models")
    text(
        "1. Which number is explained: which class, logit or probability, which layer? Write it down.\n"
        "2. Explain right **and** wrong answers, and the second-best class too.\n"
        "3. Look at many pictures, not at the prettiest; compare with the controls.\n"
        "4. Shuffle the model. If the map stays, drop the method.\n"
        "5. Cover what the map marks. If the answer stays, the map is wrong or there is a second reason.\n"
        "6. Does the map lie where the object is *not*? Test without that place: it may be a shortcut.\n"
        "7. Test on pictures from elsewhere. No map replaces a good test set."
    )


def _tried() -> tuple[str, str]:
    with st.container(horizontal=True):
        name = st.selectbox("Model", ("honest", "cheating"), key="trust-model", bind="query-params")
        method = st.selectbox("Method", METHODS_TRIED, key="trust-method", bind="query-params")
    chosen, subject, asked = model(name), example(_PICTURE), _asked(method)
    e = explained_here(chosen, subject, asked, SLUG, "The checks")
    if e is not None:
        _shown(chosen, e)
    return name, method


def _shown(chosen: Chosen, e: Explanation) -> None:
    best = e.predictions[0]
    said = f"The picture; {chosen.model.name} says: {best['label']} ({percent(best['probability'])})"
    figures([photo_figure(example(_PICTURE).image, said), map_figure(e, f"{e.method} for “{e.target.label}”")])
    if e.check is None:
        return
    st.markdown(f"**{e.check.headline}**")
    st.markdown("\n".join(f"- {a.mark} **{a.question}** {a.words}" for a in e.check.answers))


LESSON = Lesson(SLUG, "Trust", "Can I believe this map?", draw)
