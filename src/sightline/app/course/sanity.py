"""Lesson 7: maps that stay the same when the network knows nothing any more."""

from __future__ import annotations

import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import ask, chosen_scene, drawn, model, percent
from sightline.app.subject import Chosen, Subject, predicted
from sightline.demo.scenes import CLASSES
from sightline.evaluation.likeness import likeness
from sightline.evaluation.metrics.randomized import randomized, weight_layers
from sightline.methods import METHODS

__all__ = ["CANDIDATES", "LESSON", "judged", "shuffled", "stays"]

SLUG = "sanity"
CANDIDATES = ("grad_cam", "gradient", "guided_backprop", "edges")
_SAME = 0.9
_LEAST = 2


def shuffled(layers: int) -> Chosen:
    """Return the honest network with the weights of so many layers shuffled, from the output down."""
    honest = model("honest")
    names = weight_layers(honest.model)[:layers]
    return Chosen(randomized(honest.model, 0, names), f"{honest.key} shuffled {layers}") if layers else honest


def stays(subject: Subject, method: str, layers: int) -> float:
    """Return the SSIM of a method's maps of the trained and of the shuffled network, for the picture's own shape."""
    label = _label(subject)
    before, after = (ask(shuffled(n), subject, method, label) for n in (0, layers))
    return likeness(before, after, "ssim")


def _label(subject: Subject) -> str:
    return str(predicted(model("honest"), subject)[0]["label"])


def judged(subject: Subject, method: str, layers: int) -> Verdict:
    """Judge whether a method that claims to explain draws the same map of a network that knows nothing."""
    found = stays(subject, method, layers)
    said = f"`{method}` with {layers} layers shuffled: SSIM {found:.2f}."
    if layers < _LEAST:
        return Verdict(False, f"{said} Shuffle at least {_LEAST} layers.")
    if METHODS[method].family == "control":
        return Verdict(
            False, f"{said} True, but `{method}` never looks at the network and never claimed to explain it."
        )
    if found < _SAME:
        return Verdict(False, f"{said} That map has noticed that the network changed.")
    return Verdict(True, f"{said} The network's answers are worthless now, and its “explanation” hardly changed.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "**Guided backprop** is a gradient with a twist: on the way back it throws away every negative value at every "
        "ReLU. The maps are crisp and show beautiful outlines. Beautiful for whom?",
        "Here is a test that needs no taste. **Shuffle the network's weights**, layer by layer from the output down. "
        "With the head and the last convolution shuffled its answers are worthless. An explanation of *this network's "
        "answer* must then change. A map that stays cannot have been about the answer.",
        "How alike two maps are is measured by **SSIM**, structural similarity: 1 is the same map, 0 is no likeness. "
        "`edges` is a control: an edge detector that never looks at the network.",
    )
    with experiment("choose a method, then shuffle more and more layers"):
        subject, method, layers = _tried()
    _seen(subject)
    exercise(
        SLUG,
        f"Find a method that **claims to explain the network** and still draws nearly the same map (SSIM {_SAME} or "
        f"more) when at least {_LEAST} layers are shuffled.",
        lambda: judged(subject, method, layers),
    )
    read_more(
        "Adebayo et al. 2018, “Sanity checks for saliency maps”",
        "Springenberg et al. 2014 (guided backprop)",
        "metric `parameter_randomization`, control `edges`",
    )


def _seen(subject: Subject) -> None:
    two, six = ({m: f"{stays(subject, m, n):.2f}" for m in CANDIDATES} for n in (_LEAST, 6))
    look(
        f"With two layers shuffled the likeness is {two['grad_cam']} for Grad-CAM, {two['gradient']} for the gradient, "
        f"{two['guided_backprop']} for guided backprop and {two['edges']} for the edge detector.",
        "Guided backprop changes only once the early layers are shuffled too "
        f"({six['guided_backprop']} with all of them): its outlines come "
        "from the first layers, which find edges in any picture, for any class.",
        "Passing this test proves little: random numbers, drawn anew each time, would pass. Failing is what counts.",
    )


def _tried() -> tuple[Subject, str, int]:
    with st.container(horizontal=True):
        subject = chosen_scene("sanity-picture")
        method = st.selectbox("Method", CANDIDATES, key="sanity-method", bind="query-params")
        layers = st.slider("Layers shuffled", 0, 6, 0, key="sanity-layers", bind="query-params")
    net, label = shuffled(layers), _label(subject)
    figures(
        [
            photo_figure(subject.image, "The picture"),
            map_figure(ask(model("honest"), subject, method, label), f"{method}: the trained network"),
            map_figure(ask(net, subject, method, label), f"{method}: {layers} of 6 layers shuffled"),
        ]
    )
    said = predicted(net, subject)[0]
    facts(
        {
            "Likeness of the two maps (SSIM)": f"{stays(subject, method, layers):.2f}",
            "The shuffled network says": f"{said['label']} ({percent(said['probability'])})",
            "It is": drawn_label(subject),
        }
    )
    return subject, method, layers


def drawn_label(subject: Subject) -> str:
    """Return what the picture shows."""
    return CLASSES[drawn(subject.name).label]


LESSON = Lesson(SLUG, "Sanity checks", "Can a map be pretty and know nothing?", draw)
