"""Lesson 5: integrated gradients, baselines, and what a baseline cannot see."""

from __future__ import annotations

import numpy as np
import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import drawn, model, percent, pictured, share_on
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.picture import example
from sightline.app.subject import Asked, Subject, explained
from sightline.explanation import Explanation

__all__ = ["BASELINES", "LESSON", "blackened", "judged", "made", "on_star"]

SLUG = "integrated-gradients"
BASELINES = ("blur", "white", "black")
STEPS = (2, 5, 10, 20, 50)
PICTURES = ("a star painted black", "ring")
_GAP = 0.05


def blackened() -> np.ndarray:
    """Return the star of the examples with its pixels painted black, (96, 96, 3) uint8."""
    found = drawn("star")
    image = found.image.copy()
    image[found.object_mask] = 0
    return image


def _subject(name: str) -> Subject:
    return example(name) if name == "ring" else pictured(blackened(), name)


def on_star(e: Explanation) -> float:
    """Return the share of a map's magnitude that lies on the black star."""
    return share_on(e.heatmap, drawn("star").object_mask)


def _asked(baseline: str, steps: int) -> Asked:
    return Asked("integrated_gradients", "top1", (("baseline", baseline), ("steps", steps)))


def made(picture: str, baseline: str, steps: int) -> Explanation:
    """Return integrated gradients of one of the `PICTURES`."""
    return explained(model("honest"), _subject(picture), _asked(baseline, steps))


def judged(picture: str, baseline: str, steps: int) -> Verdict:
    """Judge whether a baseline is blind to the black star although the map adds up."""
    if picture != PICTURES[0]:
        return Verdict(False, "Choose the picture of the black star first.")
    e = made(picture, baseline, steps)
    share, gap = on_star(e), e.completeness.gap if e.completeness else 1.0
    if share > 0:
        return Verdict(False, f"With this baseline {percent(share)} of the map lies on the star.")
    if gap > _GAP:
        return Verdict(False, f"The star gets nothing, but the parts are {gap:.1%} off their sum: take more steps.")
    return Verdict(True, f"The star gets 0, and the parts still add up (gap {gap:.1%}): adding up is not enough.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "A gradient says what a tiny change does. **Integrated gradients** ask instead how the score came about: start "
        "at a **baseline** $b$, a picture that says nothing, go to the picture $x$ in a straight line, and collect for "
        "each pixel the gradient on the way, times how far the pixel had to go:"
    )
    st.latex(r"a_i = (x_i-b_i)\int_0^1 \frac{\partial s_c}{\partial x_i}\big(b+t\,(x-b)\big)\,dt")
    text(
        "The shares $a_i$ of all pixels then add up to what there is to explain: $\\sum_i a_i = s_c(x) - s_c(b)$. This "
        "is called **completeness**. A computer takes the integral in **steps**, so that a small gap remains, which we "
        "always print.",
        "The baseline is part of the question. “Nothing” may be black, white, or the picture out of focus, and the "
        "answers differ.",
    )
    with experiment("choose the baseline, and the number of steps"):
        picture, baseline, steps = _tried()
    look(
        "Red pixels raised the score on the way from the baseline, blue ones lowered it. "
        + _gaps(picture, baseline, steps),
        "Look at the black star with the black baseline. The factor $(x_i-b_i)$ is 0 wherever the picture is as black "
        "as the baseline, so those pixels get exactly 0, **whatever the network does with them**. And yet without "
        "them there would be no star to see. A baseline cannot see what looks like itself.",
    )
    exercise(
        SLUG,
        "For the star painted black, set the baseline that gives the star itself **exactly nothing**, with so many "
        f"steps that the gap is below {_GAP:.0%}.",
        lambda: judged(picture, baseline, steps),
    )
    read_more(
        "Sundararajan, Taly & Yan 2017, “Axiomatic attribution for deep networks”",
        "Sturmfels, Lundberg & Lee 2020, on baselines",
        "methods `integrated_gradients`, `expected_gradients`, `blur_ig`",
    )


def _gaps(picture: str, baseline: str, steps: int) -> str:
    """Say how the gap falls from the fewest steps to those that are set."""
    few, now = (made(picture, baseline, n).completeness for n in (STEPS[0], steps))
    if few is None or now is None or steps == STEPS[0]:
        return "Take more steps and watch the gap."
    found = f"With {STEPS[0]} steps the gap is {few.gap:.1%}, with {steps} it is {now.gap:.1%}"
    return f"{found}; it may rise a little between."


def _tried() -> tuple[str, str, int]:
    with st.container(horizontal=True):
        picture = st.selectbox("Picture", PICTURES, key="ig-picture", bind="query-params")
        baseline = st.selectbox("Baseline", BASELINES, key="ig-baseline", bind="query-params")
        steps = st.select_slider("Steps", STEPS, 10, key="ig-steps", bind="query-params")
    subject, net, asked = _subject(picture), model("honest"), _asked(baseline, steps)
    e = explained_here(net, subject, asked, SLUG, "Integrated gradients")
    if e is not None:
        _shown(subject, e, baseline)
    return picture, baseline, steps


def _shown(subject: Subject, e: Explanation, baseline: str) -> None:
    figures(
        [
            photo_figure(subject.image, "The picture"),
            map_figure(e, f"Integrated gradients for “{e.target.label}” from a {_NAMES[baseline]} baseline"),
        ]
    )
    if e.completeness is None:
        return
    mask = drawn("ring" if subject.name == "ring" else "star").object_mask
    facts(
        {
            "Sum of all parts": f"{e.completeness.total:.3f}",
            "s(x) − s(b)": f"{e.completeness.expected:.3f}",
            "Gap": f"{e.completeness.gap:.1%}",
            "Of the map on the object": f"{share_on(e.heatmap, mask):.1%}",
        }
    )


_NAMES = {"blur": "blurred", "white": "white", "black": "black"}

LESSON = Lesson(SLUG, "Integrated gradients", "Which pixels make up the score?", draw)
