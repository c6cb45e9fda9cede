"""Lesson 1: the gradient of a linear model is its weights, whatever the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import model, pictured
from sightline.app.subject import Asked, explained
from sightline.demo.linear import SIDE, little_shapes
from sightline.explanation import Explanation

__all__ = ["LESSON", "Nudge", "judged", "nudged", "weights"]

SLUG = "gradient"
PICTURES = ("a ring", "a cross", "another ring", "another cross", "plain grey")
_SEED = 99
_NEAR = 0.9


@dataclass(frozen=True)
class Nudge:
    """What happens to the score when one pixel, of values from 0 to 1, is changed."""

    before: float
    after: float
    weight: float
    change: float


def picture(name: str) -> np.ndarray:
    """Return one of the lesson's pictures (12, 12), uint8."""
    if name == "plain grey":
        return np.full((SIDE, SIDE), 128, np.uint8)
    place = ("a cross", "a ring", "another cross", "another ring").index(name)
    found: np.ndarray = little_shapes(4, _SEED).images[place]
    return found


def weights(image: np.ndarray) -> Explanation:
    """Return the gradient of the score for "ring" at a picture."""
    return explained(
        model("linear"), pictured(image, "little picture"), Asked("gradient", "1", (("reduction", "sum"),))
    )


def nudged(image: np.ndarray, row: int, column: int, value: int) -> Nudge:
    """Set a pixel to a value from 0 to 255 and return what the score does."""
    before, changed = weights(image), image.copy()
    changed[row, column] = value
    change = (value - int(image[row, column])) / 255
    return Nudge(before.score, weights(changed).score, float(before.heatmap[row, column]), change)


def judged(row: int, column: int) -> Verdict:
    """Judge whether the pixel is among those that lower the score for "ring" most when made brighter."""
    found = weights(picture("a ring")).heatmap
    here, least = float(found[row, column]), float(found.min())
    if here <= _NEAR * least:
        return Verdict(True, f"Its weight is {here:.2f}; the lowest of all is {least:.2f}. A ring is empty there.")
    return Verdict(False, f"This pixel's weight is {here:.2f}. Look for the deepest blue in the map of weights.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "A classifier turns a picture into a **score** for each class. The simplest one multiplies each pixel "
        "$x_i$ (0 is black, 1 is white) by a weight $w_i$ of its own and adds everything up, with a constant $b$:"
    )
    st.latex(r"s(x) = w_1 x_1 + w_2 x_2 + \dots + w_n x_n + b")
    st.latex(r"\frac{\partial s}{\partial x_i} = w_i")
    text(
        "The **gradient** says, for each pixel, how fast the score grows as that pixel gets brighter. Here it is the "
        "weight itself: change one pixel by $\\Delta$, and the score changes by exactly $w_i \\cdot \\Delta$.",
        "This one tells rings from crosses, 12 × 12 pixels each. A score above 0 says “ring”, below 0 “cross”. "
        "Its weights, drawn as a picture, **are** the explanation of everything that it will ever say.",
    )
    with experiment("choose a picture, then change one of its pixels"):
        row, column = _tried()
    look(
        "Red runs round the middle, where a ring is and a cross is not, deepest on the diagonals: bright pixels there "
        "raise the score. The middle is blue, where the bars of a cross meet: bright pixels there lower it.",
        "Change the picture and the map stays the same, down to the last digit, even for plain grey. A linear model "
        "has one explanation. And the last two numbers agree whichever pixel you change, because nothing is curved.",
    )
    exercise(
        SLUG,
        "Choose the row and column of a pixel that **lowers** the score for “ring” most when it gets brighter "
        "(within a tenth of the best one).",
        lambda: judged(row, column),
    )
    read_more("Simonyan, Vedaldi & Zisserman 2013 (section 3 begins with a linear model)", "method `gradient`")


def _tried() -> tuple[int, int]:
    image = picture(st.selectbox("Picture", PICTURES, key="gradient-picture", bind="query-params"))
    with st.container(horizontal=True):
        row = st.slider("Row", 1, SIDE, 1, key="gradient-row", bind="query-params") - 1
        column = st.slider("Column", 1, SIDE, 1, key="gradient-column", bind="query-params") - 1
        value = st.slider("New brightness of the pixel", 0, 255, 255, 5, key="gradient-value", bind="query-params")
    changed = image.copy()
    changed[row, column] = value
    left, right = st.columns(2)
    with left:
        _chart(changed / 255, "The picture (the framed pixel is changed)", (row, column), grey=True)
    with right:
        _chart(weights(changed).heatmap, "The gradient for “ring”: the weights", (row, column), grey=False)
    _told(nudged(image, row, column, value))
    return row, column


def _told(n: Nudge) -> None:
    facts(
        {
            "Score before": f"{n.before:.3f}",
            "Score after": f"{n.after:.3f}",
            "Change of the score": f"{n.after - n.before:+.4f}",
            f"Weight × change: {n.weight:.3f} × {n.change:+.3f}": f"{n.weight * n.change:+.4f}",
        }
    )


def _chart(values: np.ndarray, title: str, at: tuple[int, int], *, grey: bool) -> None:
    line, most = list(range(1, SIDE + 1)), float(np.abs(values).max())
    look_ = (
        {"colorscale": "gray", "zmin": 0, "zmax": 1} if grey else {"colorscale": "RdBu_r", "zmin": -most, "zmax": most}
    )
    hover = "row %{y}, column %{x}: %{z:.2f}<extra></extra>"
    figure = go.Figure(go.Heatmap(z=values, x=line, y=line, hovertemplate=hover, colorbar={"thickness": 10}, **look_))
    y, x = at[0] + 1, at[1] + 1
    figure.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": "#ff7f0e", "width": 3})
    figure.update_yaxes(autorange="reversed", scaleanchor="x", dtick=2, constrain="domain")
    figure.update_xaxes(dtick=2, constrain="domain")
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=330, margin={"l": 25, "r": 0, "t": 40, "b": 25}
    )
    words = "12 by 12 grey pixels" if grey else "12 by 12 weights: a positive ring, negative in the middle"
    st.plotly_chart(figure, config={"displayModeBar": False}, key=f"gradient-chart-{grey}", alt=f"{title}: {words}")


LESSON = Lesson(SLUG, "Gradient", "What is a gradient?", draw)
