"""The pictures of concepts: a contact sheet with a row for each, and a bar chart of how a class depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from sightline.errors import RefusedError
from sightline.render.layout import beside, framed, padded, scaled_into, stack
from sightline.render.overlay import overlay
from sightline.render.palette import ACCENT, BAR, EMPTY, INK, MUTED, PAPER
from sightline.render.photo import rgb
from sightline.render.plot import Frame, with_axes
from sightline.render.text import compact, ellipsis, font, text_block

if TYPE_CHECKING:
    from sightline.concept.results import Cav, Concept, Concepts, Tcav

__all__ = ["contact_sheet", "tcav_chart"]

CELL = 104
SIDE = 210
GAP = 8
SHARP = 3  # drawn so many times larger and averaged: Pillow's lines have steps
FIELD = (620, 260)


def contact_sheet(found: Concepts) -> Image.Image:
    """Return a row for each concept: importance, the image that holds most of it with its map, and its best crops.

    Raises RefusedError for concepts of signals or volumes.
    """
    if found.concepts[0].scene.pixels is None:
        raise RefusedError(
            "a contact sheet shows pictures, and these are concepts of signals or volumes; read the places of their "
            "crops: concepts[0].crops."
        )
    shown = max(len(c.crops) for c in found.concepts)
    rows = [_row(c) for c in found.concepts]
    width = SIDE + (shown + 1) * (CELL + 2) + (shown + 2) * GAP
    said = (
        f"importance: share of the score's variance that each concept is part of (total Sobol index, mean over "
        f"{found.images} images ± its standard error); shares may overlap"
    )
    return _sheet(
        f"What makes '{found.target}'",
        f"{_model(found)} · layer {found.layer} · {found.crops} crops of {found.images} images",
        stack([_header(), *rows], GAP),
        [said, *found.notes],
        width,
    )


def _model(found: Concepts | Tcav) -> str:
    return f"{found.provenance.get('model', '')} ({found.provenance.get('weights', '')})"


def _sheet(title: str, subtitle: str, body: Image.Image, notes: Sequence[str], width: int) -> Image.Image:
    heading = [
        text_block(title, width=width, size=20, bold=True, most_lines=2),
        text_block(subtitle, width=width, size=13, colour=MUTED, most_lines=2),
    ]
    foot = [text_block(note, width=width, size=12, colour=MUTED, most_lines=3) for note in notes]
    return padded(stack([stack(heading, 4), body, stack(foot, 4)], 18), 28)


def _header() -> Image.Image:
    words = ("concept", "where it is most", "its best crops")
    widths = (SIDE, CELL + 2, 3 * CELL)
    blocks = [text_block(w, width=n, size=12, colour=MUTED, most_lines=2) for w, n in zip(words, widths, strict=True)]
    return beside(blocks, GAP)


def _row(c: Concept) -> Image.Image:
    where = None
    if c.scene.pixels is not None:
        where = _cell(overlay(c.scene.pixels, c.scene.heatmap, style="sequential", heatmap_opacity=0.55))
    crops = [_cell(rgb(crop.pixels)) for crop in c.crops if crop.pixels is not None]
    return beside([_side(c), where, Image.new("RGB", (1, 1), PAPER), *crops], GAP)


def _cell(picture: Image.Image) -> Image.Image:
    return framed(scaled_into(picture, CELL, CELL))


def _side(c: Concept) -> Image.Image:
    bar = Image.new("RGB", (SIDE - 16, 14), EMPTY)
    length = round((bar.width - 1) * min(max(c.importance, 0.0), 1.0))
    ImageDraw.Draw(bar).rectangle((0, 0, length, 13), ACCENT)
    way = "raises" if c.effect >= 0 else "lowers"
    lines = [
        text_block(c.name, width=SIDE - 16, size=15, bold=True, most_lines=1),
        bar,
        text_block(_plus_minus(c.importance, c.error), width=SIDE - 16, size=12),
        text_block(f"{way} the score by {compact(abs(c.effect))}", width=SIDE - 16, size=12, colour=MUTED),
    ]
    return beside([stack(lines, 5), Image.new("RGB", (8, CELL + 2), PAPER)], 8)


def _plus_minus(value: float, error: float | None) -> str:
    return f"importance {value:.2f}" + ("" if error is None else f" ± {error:.2f}")


def tcav_chart(found: Tcav) -> Image.Image:
    """Return a bar for each concept's TCAV score, with its spread, beside that of random directions."""
    cavs = [*found.concepts, found.random]
    width = max(FIELD[0], 110 * len(cavs))
    frame = Frame(width, FIELD[1], len(cavs), 0.0, 1.08)
    chart = with_axes(
        _bars(cavs, frame),
        [(frame.y(t), f"{t:.2f}") for t in (0.0, 0.25, 0.5, 0.75, 1.0)],
        [],
        48,
    )
    said = (
        f"TCAV score: share of {found.images} images of '{found.target}' whose score rises along the concept's "
        f"direction; bar: mean of {len(found.random.scores)} runs, line: their standard deviation; pale, n.s.: it does "
        "not differ from random directions (p > 0.05), or the layer does not represent the concept"
    )
    body = stack([chart, _captions(found, frame)], 6)
    title = f"Does '{found.target}' depend on it?"
    return _sheet(title, f"{_model(found)} · layer {found.layer}", body, [said, *found.notes], body.width)


def _bars(cavs: Sequence[Cav], frame: Frame) -> Image.Image:
    canvas = Image.new("RGB", (frame.width * SHARP, frame.height * SHARP), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for tick in (0.25, 0.5, 0.75, 1.0):
        y = frame.y(tick) * SHARP
        draw.line((0, y, canvas.width, y), BAR if tick == 0.5 else EMPTY, SHARP)
    for n, cav in enumerate(cavs):
        _bar(draw, cav, frame.x(n), frame, is_control=n == len(cavs) - 1)
    return canvas.reduce(SHARP)


def _bar(draw: ImageDraw.ImageDraw, cav: Cav, x: float, frame: Frame, *, is_control: bool) -> None:
    half = min(frame.width / frame.points * 0.3, 36)
    top, bottom = frame.y(cav.score) * SHARP, frame.y(0.0) * SHARP
    colour = BAR if is_control else ACCENT if cav.significant else (190, 208, 224)
    draw.rectangle(((x - half) * SHARP, top - SHARP, (x + half) * SHARP, bottom), colour)
    ends = [frame.y(min(max(cav.score + s * cav.error, 0.0), 1.0)) * SHARP for s in (-1, 1)]
    draw.line((x * SHARP, ends[0], x * SHARP, ends[1]), INK, 2 * SHARP)
    for y in ends:
        draw.line(((x - 5) * SHARP, y, (x + 5) * SHARP, y), INK, 2 * SHARP)
    if not (is_control or cav.significant):
        draw.text((x * SHARP, ends[1] - 6 * SHARP), "n.s.", INK, font(12 * SHARP, True), "ms")


def _captions(found: Tcav, frame: Frame) -> Image.Image:
    """Write below each bar its name, score, p-value and the classifier's held-out accuracy."""
    step = frame.width // frame.points
    blocks = [_caption(c, step, [_verdict(c)]) for c in found.concepts]
    return beside([Image.new("RGB", (49, 1), PAPER), *blocks, _caption(found.random, step, ["control"])])


def _caption(c: Cav, width: int, more: Sequence[str]) -> Image.Image:
    name = ellipsis(c.name, font(13, True), width - 8)
    lines = [f"{c.score:.2f}", *more, f"told right {c.accuracy:.0%}"]
    return stack(
        [
            text_block(name, width=width, size=13, bold=True, align="center", most_lines=1),
            *(text_block(line, width=width, size=12, colour=MUTED, align="center", most_lines=1) for line in lines),
        ],
        1,
    )


def _verdict(c: Cav) -> str:
    if not c.represented:
        return "not represented"
    return "p < 0.001" if c.p_value < 0.001 else f"p = {c.p_value:.2g}"
