"""Lesson 2: the gradient of a network depends on the picture, is noisy, and has signs."""

from __future__ import annotations

import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure, signed
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import ask, chosen_scene, drawn, model, percent, share_on
from sightline.app.parts.picture import example
from sightline.app.subject import Subject, predicted
from sightline.demo.scenes import CLASSES
from sightline.evaluation.likeness import likeness

__all__ = ["LESSON", "alike_to", "judged"]

SLUG = "saliency"


def alike_to(subject: Subject, own: str) -> dict[str, float]:
    """Return how alike the signed gradients of all classes are to that of one of them."""
    maps = {label: ask(model("honest"), subject, "gradient", label, reduction="sum") for label in CLASSES}
    return {label: likeness(maps[own], found) for label, found in maps.items()}


def judged(subject: Subject, label: str) -> Verdict:
    """Judge whether a class's gradient is the most opposite to that of the predicted class."""
    own = predicted(model("honest"), subject)[0]["label"]
    found = alike_to(subject, own)
    least = min(found, key=found.__getitem__)
    said = f"The gradient for “{label}” has a correlation of {found[label]:.2f} with that for “{own}”."
    if label == least:
        return Verdict(
            True, f"{said} Of all classes it is the most opposite: what makes it more a {own} makes it less a {label}."
        )
    return Verdict(False, f"{said} Another class has a lower one.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "A network is not linear, but near any one picture it is almost: the gradient $\\partial s_c / \\partial x_i$ "
        "says how fast the score $s_c$ of class $c$ grows with pixel $i$, **for very small changes of this picture**. "
        "One backward pass computes it for all pixels at once. Drawn as a picture it is called a **saliency map**.",
        "The classic drawing shows the **magnitude** only: bright means sensitive, whichever way. With **signs**, red "
        "pixels raise the score when they get brighter, and blue ones lower it.",
        "The network here is `demo/honest`, which names one of six shapes.",
    )
    with experiment("change the class, and the picture"):
        subject, label = _tried()
    _seen(subject)
    exercise(
        SLUG,
        "Change the class until its signed gradient is the **most opposite** to that of the class that the network "
        "predicts (correlation nearest to −1).",
        lambda: judged(subject, label),
    )
    read_more("Simonyan, Vedaldi & Zisserman 2013, “Deep inside convolutional networks”", "method `gradient`")


def _tried() -> tuple[Subject, str]:
    with st.container(horizontal=True):
        subject = chosen_scene("saliency-picture", ("star", "ring", "cross", "disc", "square", "triangle"))
        label = st.selectbox(
            "Class", ("star", *(c for c in CLASSES if c != "star")), key="saliency-class", bind="query-params"
        )
    honest = model("honest")
    sign = ask(honest, subject, "gradient", label, reduction="sum")
    figures(
        [
            photo_figure(subject.image, "The picture"),
            map_figure(ask(honest, subject, "gradient", label), f"Magnitude of the gradient for “{label}”"),
            map_figure(signed(sign), f"The same with signs, for “{label}”"),
        ]
    )
    own = predicted(honest, subject)[0]
    facts(
        {
            "The network says": f"{own['label']} ({percent(own['probability'])})",
            f"Score of “{label}”": f"{sign.score:.2f}",
            f"Correlation with the gradient for “{own['label']}”": f"{alike_to(subject, own['label'])[label]:.2f}",
        }
    )
    return subject, label


def _seen(subject: Subject) -> None:
    mask = drawn(subject.name).object_mask
    share = share_on(ask(model("honest"), subject, "gradient").heatmap, mask)
    other = "cross" if subject.name != "cross" else "ring"
    first, second = (ask(model("honest"), s, "gradient", "star", reduction="sum") for s in (subject, example(other)))
    look(
        f"The map is grainy, and yet not random: {percent(share)} of its magnitude lies on the object, which covers "
        f"{percent(float(mask.mean()))} of the picture.",
        f"Unlike the linear model's it depends on the picture: the gradients for “star” at this picture and at the "
        f"“{other}” have a correlation of only {likeness(first, second):.2f}.",
        "It also answers a narrow question: what a **tiny** change would do, not what the network used. A pixel may be "
        "important and its gradient small, because the score has levelled off.",
    )


LESSON = Lesson(SLUG, "Saliency maps", "Which pixels would change the answer?", draw)
