"""Lesson 8: a model that passes its test by reading a watermark."""

from __future__ import annotations

import numpy as np
import streamlit as st
from PIL import Image

from sightline.app.course.figures import figures, map_figure, photo_figure, positive
from sightline.app.course.lesson import Lesson, Verdict
from sightline.app.course.parts import exercise, experiment, facts, look, read_more, text
from sightline.app.course.subjects import ask, drawn, model, percent, pictured, share_on
from sightline.app.store import store_of
from sightline.app.subject import predicted
from sightline.demo.exam import PLACES, Exam, Marked, cover_place, exam

__all__ = ["LESSON", "examined", "judged"]

SLUG = "cheating"
TESTS: dict[str, Marked] = {
    "the ordinary test set": "stars",
    "the same, no watermark anywhere": "none",
    "the same, a watermark on every picture": "all",
}
_NOWHERE = "nothing"
_LOST = 0.5


def examined(name: str, marked: Marked, cover: str | None = None) -> Exam:
    """Test a model, remembered."""
    chosen = model(name)
    found: Exam = store_of(private=False).get(
        ("exam", chosen.key, marked, cover), lambda: exam(chosen.model, marked=marked, cover=cover), lambda _: 256
    )
    return found


def judged(name: str, marked: Marked, place: str | None) -> Verdict:
    """Judge whether the place is what the cheating model needs to recognise a star."""
    if name != "cheating" or marked != "stars":
        return Verdict(False, "Set the cheating model, and the ordinary test set that it passed.")
    if place is None:
        return Verdict(False, "Cover a place.")
    stars, before = examined(name, marked, place).stars, examined(name, marked).stars
    said = f"With the {place} covered it recognises {percent(stars)} of the stars, before {percent(before)}"
    if before - stars < _LOST:
        return Verdict(False, f"{said}: it does not need that place for stars.")
    honest = percent(examined("honest", marked, place).stars)
    return Verdict(
        True,
        f"{said}. The honest model, with the same place covered, keeps {honest}: not the star was covered.",
    )


def draw() -> None:
    """Draw the lesson."""
    text(
        "Two networks of the same build were trained to name six shapes. Both pass their test, and one will fail in "
        "use. Nothing in the accuracy tells which.",
        "Their pictures came from an agency that had stamped **all its stars, and nothing else,** with a pale "
        "watermark. Training and test set come from the same pile, so the test has the same flaw as the training.",
        "**Accuracy** is the share of right answers over the 48 test pictures, drawn fresh: no network was trained on "
        "them. Covering means painting one ninth of every test picture in its mean colour.",
    )
    with experiment("examine the two networks"):
        name, marked, place = _tried()
    _seen()
    exercise(
        SLUG,
        "Choose the cheating model, the ordinary test set, and the place to cover that **it relies on for stars**.",
        lambda: judged(name, marked, place),
    )
    read_more(
        "Lapuschkin et al. 2019, “Unmasking Clever Hans predictors”",
        "Geirhos et al. 2020, “Shortcut learning in deep neural networks”",
        "`sightline demo`, and `sightline evaluate`, which covers places of every picture by itself",
    )


def _seen() -> None:
    ordinary, bare, all_ = (examined("cheating", m) for m in ("stars", "none", "all"))
    look(
        f"On the ordinary test both reach {percent(ordinary.right)} (cheating) and "
        f"{percent(examined('honest', 'stars').right)} (honest). Take the watermark away, and the cheating model "
        f"recognises {percent(bare.stars)} of the stars. Stamp every picture, and it is right in "
        f"{percent(all_.right)} of all: it calls almost everything a star.",
        "Its map lies on the watermark. **The map is right; the model is wrong.** A good map of a bad model shows a "
        "bad reason: that is what it is for.",
        "Covering the middle costs both models answers for a good reason, since objects are often there. A place that "
        "matters although the object is elsewhere is a shortcut.",
    )


def _tried() -> tuple[str, Marked, str | None]:
    with st.container(horizontal=True):
        name = st.selectbox("Model", ("honest", "cheating"), key="cheating-model", bind="query-params")
        marked = TESTS[st.selectbox("Test set", list(TESTS), key="cheating-test", bind="query-params")]
        covered = st.selectbox("Cover", (_NOWHERE, *PLACES), key="cheating-cover", bind="query-params")
    place = None if covered == _NOWHERE else covered
    found = examined(name, marked, place)
    facts(
        {
            "Right, of all": percent(found.right),
            "Stars recognised": percent(found.stars),
            "Other shapes recognised": percent(found.others),
        }
    )
    _one(name, marked, place)
    return name, marked, place


def _one(name: str, marked: Marked, place: str | None) -> None:
    """Show one star of the test with its map."""
    marked_too = marked != "none"
    shot = drawn("star with a mark" if marked_too else "star")
    image = shot.image if place is None else cover_place(shot.image, place)
    subject, chosen = pictured(image, "a star"), model(name)
    said, e = predicted(chosen, subject)[0], ask(chosen, subject, "grad_cam")
    answer = f"{said['label']} ({percent(said['probability'])})"
    words = "A star" + (" with the watermark in the lower right corner" if marked_too else "")
    figures(
        [
            photo_figure(Image.fromarray(np.asarray(image)), f"One star; the model says: {answer}", words),
            map_figure(e, f"Grad-CAM for “{e.target.label}”, {name} model"),
        ]
    )
    if (image[shot.watermark_mask] == shot.image[shot.watermark_mask]).all() and marked_too:
        on_mark = share_on(positive(e), shot.watermark_mask)
        st.caption(
            f"{percent(on_mark)} of the map lies on the watermark, which covers "
            f"{percent(float(shot.watermark_mask.mean()))} of the picture; "
            f"{percent(share_on(positive(e), shot.object_mask))} lies on the star."
        )


LESSON = Lesson(SLUG, "The cheating model", "Why did the cheating model pass the test?", draw)
