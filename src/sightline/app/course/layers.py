"""Lesson 3: Grad-CAM; early layers know where, late ones what."""

from __future__ import annotations

import streamlit as st

from sightline.app.course.figures import figures, map_figure, photo_figure, positive, signed
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import chosen_scene, drawn, model, percent, share_on
from sightline.app.subject import Asked, Subject, explained
from sightline.explanation import Explanation

__all__ = ["LAYERS", "LESSON", "at_layer", "first_on_object", "judged"]

SLUG = "grad-cam"
LAYERS = tuple(f"features.relu{i}" for i in range(1, 6))
_HALF = 0.5


def at_layer(subject: Subject, layer: str, *, relu: bool = True) -> Explanation:
    """Return Grad-CAM of the predicted class at a layer."""
    parameters = () if relu else (("relu", False),)
    return explained(model("honest"), subject, Asked("grad_cam", "top1", parameters, layer=layer))


def _share(subject: Subject, layer: str) -> float:
    return share_on(positive(at_layer(subject, layer)), drawn(subject.name).object_mask)


def first_on_object(subject: Subject) -> str | None:
    """Return the first layer of whose map at least half lies on the object."""
    return next((layer for layer in LAYERS if _share(subject, layer) >= _HALF), None)


def judged(subject: Subject, layer: str) -> Verdict:
    """Judge whether a layer is the first whose map lies on the object."""
    share, first = _share(subject, layer), first_on_object(subject)
    said = f"At `{layer}` {percent(share)} of the map lies on the object"
    if layer == first:
        return Verdict(True, f"{said}, and at no earlier layer is it half.")
    return Verdict(
        False, f"{said}; " + ("an earlier layer has half of it there too." if share >= _HALF else "go later.")
    )


def draw() -> None:
    """Draw the lesson."""
    text(
        "Inside the network each layer holds a stack of **channels** $A^k$: small pictures that light up where the "
        "layer found something: an edge, a corner, at last a part of a shape. Early layers are fine and know "
        "**where**, late ones are coarse and know **what**.",
        "**Grad-CAM** takes one layer. It weighs each channel $k$ by the mean gradient of the class score over the "
        "channel's $Z$ positions, adds the channels up, and keeps what is positive (that is what ReLU means):",
    )
    st.latex(r"\alpha_k^c = \frac{1}{Z}\sum_{ij} \frac{\partial s_c}{\partial A^k_{ij}}")
    st.latex(r"L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big)")
    text("$\\alpha_k^c$ says how much channel $k$ speaks for class $c$; the map $L^c$ is as coarse as the layer is.")
    with experiment("change the layer, from early to late"):
        subject, layer = _tried()
    shares = ", ".join(f"{percent(_share(subject, name))} at layer {i}" for i, name in enumerate(LAYERS, 1))
    look(
        f"On this picture the part of the map that lies on the object is {shares}. Early maps follow edges or are "
        "empty; at a late layer the map is a soft blot on the object.",
        "The last layers spill over the object's edge, because 12 × 12 values are stretched over 96 × 96 pixels: "
        "a blot that is a little too large is the grid, not the network's opinion.",
        "Without the ReLU, blue shows what speaks **against** the class. An empty map means that nothing was positive.",
    )
    exercise(
        SLUG,
        "Choose the **first** layer (from the input on) of whose map at least half lies on the object.",
        lambda: judged(subject, layer),
    )
    read_more("Selvaraju et al. 2017, “Grad-CAM”", "Zhou et al. 2016, “CAM”", "methods `grad_cam`, `cam`, `layer_cam`")


def _tried() -> tuple[Subject, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        subject = chosen_scene("grad-cam-picture")
        layer = st.selectbox("Layer", LAYERS, key="grad-cam-layer", bind="query-params")
        relu = st.toggle("ReLU (positive part only)", value=True, key="grad-cam-relu", bind="query-params")
    e = at_layer(subject, layer, relu=relu)
    caption = f"Grad-CAM for “{e.target.label}” at {layer}"
    figures([photo_figure(subject.image, "The picture"), map_figure(e if relu else signed(e), caption)])
    grid = " × ".join(map(str, e.attribution.shape))
    empty = not positive(e).any()
    facts(
        {
            "Values in this layer's map": grid,
            "Of the map on the object": "the map is empty" if empty else percent(_share(subject, layer)),
            "The object covers": percent(float(drawn(subject.name).object_mask.mean())),
        }
    )
    return subject, layer


LESSON = Lesson(SLUG, "Grad-CAM", "Does the layer know where, or what?", draw)
