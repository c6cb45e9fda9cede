"""Lesson 4: averaging the gradient over noisy copies."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch
from PIL import Image

from sightline.app.course.figures import figures, map_figure, photo_figure
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import SCENES, ask, chosen_scene, drawn, model, percent, share_on
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.picture import example
from sightline.app.store import store_of
from sightline.app.subject import Asked, Subject
from sightline.explanation import Explanation
from sightline.geometry import restore
from sightline.models.model import Model
from sightline.points import noisy
from sightline.predictions import predict

__all__ = ["COPIES", "LESSON", "averaged", "judged", "on_noise"]

SLUG = "smooth-grad"
COPIES = (4, 8, 16, 32, 64)
_FROM = 8
_HALF = 0.55


def averaged(subject: Subject, copies: int, noise: float) -> Explanation:
    """Return SmoothGrad of the predicted class."""
    return ask(model("honest"), subject, "smooth_grad", noise=noise, samples=copies)


def on_noise(net: Model, image: Image.Image, noise: float, label: str, copies: int = 8) -> tuple[Image.Image, float]:
    """Return one noisy copy as SmoothGrad sees it, and the mean probability of a class over some copies."""
    x, _ = net.prepare(net.read(image))
    found = torch.cat(list(noisy(x[None], copies, noise, "relative", 0)))
    chances = [next((p["probability"] for p in row if p["label"] == label), 0.0) for row in predict(net, found)]
    return Image.fromarray(restore(found[0], net.preprocessing)), float(np.mean(chances))


def judged(subject: Subject, copies: int, noise: float) -> Verdict:
    """Judge whether so many copies are the fewest that halve the standard error of eight."""
    if noise == 0:
        return Verdict(False, "Without noise all copies are the same, and so the standard error is 0: add some noise.")
    start = averaged(subject, _FROM, noise).standard_error or 0.0
    ratio = (averaged(subject, copies, noise).standard_error or 0.0) / start
    said = f"With {copies} copies the standard error is {ratio:.2f} times that with {_FROM}."
    if ratio > _HALF:
        return Verdict(False, f"{said} Take more copies.")
    if (averaged(subject, copies // 2, noise).standard_error or 0.0) / start <= _HALF:
        return Verdict(False, f"{said} That is more work than needed: fewer copies do it.")
    return Verdict(True, f"{said} Four times the copies for half the error: it falls with the square root.")


def draw() -> None:
    """Draw the lesson."""
    text(
        "The gradient jumps from pixel to pixel, because the network's score is made of very many straight pieces "
        "with bends between them. **SmoothGrad** asks many neighbours: it adds random noise $\\varepsilon$ to the "
        "picture, takes the gradient, and averages over $n$ such copies:"
    )
    st.latex(r"\hat g_i = \frac{1}{n}\sum_{m=1}^{n}\frac{\partial s_c}{\partial x_i}(x+\varepsilon_m)")
    text(
        "An average over random copies is an estimate. Its **standard error** says how far it may be from the average "
        "over all possible copies: $\\sigma_i/\\sqrt n$, where $\\sigma_i$ is how much pixel $i$'s gradient differs "
        "between copies. The number below is its mean over all pixels.",
        "**Noise** is the size of $\\varepsilon$, as a share of the picture's range of values.",
    )
    with experiment("how many copies, how much noise?"):
        found = _tried()
    look(
        "More copies make the map steadier: the standard error falls. With few copies it is grainier than the plain "
        "gradient, for every noisy copy brings a grain of its own, and only many copies average it out.",
        "More noise changes the **question**: the middle picture is what the network was asked about. "
        + _spread(found[0] if found else example(SCENES[0])),
        "A steady or a smooth map is nicer to look at. That alone does not make it truer; lesson 7 shows how to tell.",
    )
    exercise(
        SLUG,
        f"With {_FROM} copies there is some standard error. Choose the **fewest** copies that bring it to about half.",
        lambda: judged(*found) if found else Verdict(False, "The map was stopped; let it be made first."),
    )
    read_more("Smilkov et al. 2017, “SmoothGrad”", "method `smooth_grad`")


def _spread(subject: Subject) -> str:
    """Say how much of the map lies on the object without noise and with much."""
    mask = drawn(subject.name).object_mask
    none, most = (percent(share_on(averaged(subject, COPIES[0], noise).heatmap, mask)) for noise in (0.0, 1.0))
    return f"Without noise {none} of this map's magnitude lies on the object, with noise of 1 only {most}."


def _tried() -> tuple[Subject, int, float] | None:
    with st.container(horizontal=True):
        subject = chosen_scene("smooth-grad-picture")
        copies = st.select_slider("Copies", COPIES, COPIES[0], key="smooth-grad-copies", bind="query-params")
        noise = st.slider("Noise", 0.0, 1.0, 0.15, 0.05, key="smooth-grad-noise", bind="query-params")
    asked = Asked("smooth_grad", "top1", (("noise", noise), ("samples", copies)))
    net = model("honest")
    e = explained_here(net, subject, asked, SLUG, "SmoothGrad")
    if e is None:
        return None
    plain = ask(net, subject, "gradient")
    copy, chance = store_of(private=False).get(
        ("noisy", net.key, subject.key, noise, e.target.label),
        lambda: on_noise(net.model, subject.image, noise, e.target.label),
        lambda _: 1 << 16,
    )
    figures(
        [
            map_figure(plain, "The plain gradient"),
            photo_figure(copy, "One noisy copy", f"The picture with noise of {noise:.2f} of its range"),
            map_figure(e, f"The mean over {copies} copies"),
        ]
    )
    size = float(np.abs(e.attribution).mean())
    facts(
        {
            "Standard error": f"{e.standard_error or 0:.5f}",
            "as a share of the map's mean size": percent((e.standard_error or 0) / size),
            f"Probability of “{e.target.label}” on noisy copies": percent(chance),
        }
    )
    return subject, copies, noise


LESSON = Lesson(SLUG, "SmoothGrad", "Why is the map so noisy, and does averaging help?", draw)
