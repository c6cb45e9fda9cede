"""Lesson 6: which number is explained; a network without its head, logits, probabilities."""

from __future__ import annotations

import numpy as np
import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import chosen_scene, model, percent
from sightline.app.subject import Asked, Subject, explained, predicted
from sightline.demo.scenes import CLASSES
from sightline.evaluation.likeness import likeness
from sightline.explanation import Explanation
from sightline.targets import unit

__all__ = ["LESSON", "PLACES", "judged", "taken"]

SLUG = "score"
PLACES = {
    "logit": "Score of the class (logit)",
    "probability": "Probability of the class (after softmax)",
    "features": "No head (include_top=False)",
}
_FEATURES = unit("features.relu5")
_SIGNED = (("reduction", "sum"),)


def taken(subject: Subject, place: str, label: str, *, signs: bool = False) -> Explanation:
    """Return the gradient of the number at one of the `PLACES`."""
    parameters = _SIGNED if signs else ()
    if place == "features":
        return explained(model("honest"), subject, Asked("gradient", _FEATURES, parameters))
    return explained(model("honest"), subject, Asked("gradient", str(CLASSES.index(label)), parameters, output=place))


def _other(subject: Subject, label: str) -> str:
    """Return the network's best class but for one."""
    return next(str(p["label"]) for p in predicted(model("honest"), subject) if p["label"] != label)


def same_for(subject: Subject, place: str, label: str) -> float:
    """Return how alike the gradients of a class and of the likeliest other one are, the score taken at a place."""
    own, other = (taken(subject, place, c, signs=True) for c in (label, _other(subject, label)))
    return likeness(own, other)


def judged(subject: Subject, place: str, label: str) -> Verdict:
    """Judge whether the map is the same whatever the class."""
    found = same_for(subject, place, label)
    said = f"Here the maps of “{label}” and “{_other(subject, label)}” have a correlation of {found:.2f}."
    if found == 1.0:
        return Verdict(True, f"{said} Without its head the network has no classes, so there is none to ask about.")
    return Verdict(False, f"{said} So the class still matters.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "A classifier ends in a **head**: a layer that turns the last features into one raw score for each class, the "
        "**logit** $z_c$, and a **softmax** that turns the scores into probabilities $p_c = e^{z_c} / \\sum_j e^{z_j}$ "
        "(each between 0 and 1, together 1). An explanation explains **one number**, and there are three places to "
        "take it.",
        "Keras' `include_top=False` loads a network **without its head**. Such a network has features but no classes. "
        "A map of it can only explain a feature, such as the mean of the last layer, and looks just as convincing.",
        "A probability depends on all classes at once, and it levels off:",
    )
    st.latex(
        r"\frac{\partial p_c}{\partial x_i} = p_c\Big(\frac{\partial z_c}{\partial x_i}"
        r" - \sum_j p_j\,\frac{\partial z_j}{\partial x_i}\Big)"
    )
    text(
        "When $p_c$ is nearly 1, the sum is nearly $\\partial z_c / \\partial x_i$ itself, and the bracket nearly 0: "
        "the surer the network, the smaller the gradient of its probability. For a class of small $p_c$ the factor in "
        "front does the same. This is why the logit is our default."
    )
    with experiment("take the number elsewhere, then change the class"):
        subject, place, label = _tried()
    best = predicted(model("honest"), subject)[0]
    certain, raw = (taken(subject, p, best["label"], signs=True) for p in ("probability", "logit"))
    plain = likeness(taken(subject, "features", label, signs=True), raw)
    look(
        f"For “{best['label']}”, of which the network is {percent(best['probability'])} sure, the largest gradient of "
        f"the probability is {_largest(certain) / _largest(raw):.1%} of that of the logit, and the pattern much the "
        f"same (correlation {likeness(certain, raw):.2f}).",
        "Without the head the map does not change with the class: it cannot. It still resembles the class map "
        f"(correlation {plain:.2f} for “{best['label']}”), so that one may overlook that it answers another question.",
    )
    exercise(
        SLUG,
        "Set where the number is taken so that the map is **exactly the same whatever class** you choose.",
        lambda: judged(subject, place, label),
    )
    read_more(
        "Simonyan et al. 2013 (section 2: why the unnormalised score)",
        "the keyword `output=` of `explain`, and `sightline.targets.unit` for features",
    )


def _tried() -> tuple[Subject, str, str]:
    place = st.selectbox(
        "Which number?", PLACES, format_func=PLACES.__getitem__, key="score-place", bind="query-params"
    )
    with st.container(horizontal=True):
        subject = chosen_scene("score-picture")
        label = st.selectbox(
            "Class", ("ring", *(c for c in CLASSES if c != "ring")), key="score-class", bind="query-params"
        )
    e = taken(subject, place, label)
    what = "the mean of the last features" if place == "features" else f"“{label}”, the {place}"
    figures([photo_figure(subject.image, "The picture"), map_figure(e, f"Gradient of {what}")])
    facts(
        {
            "The number": f"{e.score:.3f}",
            "Largest gradient of a pixel": f"{_largest(e):.4f}",
            f"Correlation with the map of “{_other(subject, label)}”": f"{same_for(subject, place, label):.2f}",
        }
    )
    return subject, place, label


def _largest(e: Explanation) -> float:
    return float(np.abs(e.attribution).max())


LESSON = Lesson(SLUG, "Which number?", "Which number do we explain?", draw)
