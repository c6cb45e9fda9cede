"""Cards of what was optimised: a maximising picture, and two photos with the cells that were swapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from sightline.render.layout import scaled_into, stack
from sightline.render.palette import ACCENT, MUTED, RGB
from sightline.render.photo import resized_photo, rgb
from sightline.render.plot import LIGHT, Frame, line, number_ticks, whole_ticks, with_axes
from sightline.render.sheet import Room, panel, predictions_block, sheet
from sightline.render.text import compact, font, text_block

if TYPE_CHECKING:
    from sightline.counterfactuals import Counterfactual
    from sightline.maximized import Maximized

__all__ = ["boxed", "counterfactual_card", "curve", "maximized_card"]

SIDE = 520
CURVE_HEIGHT = 200
# Told apart from photographs and from each other, also by those who do not see red and green as different.
BOX: RGB = (255, 214, 10)
EDGE: RGB = (20, 24, 30)

Box = tuple[float, float, float, float]


def curve(values: Sequence[float], width: int, height: int, name: str) -> Image.Image:
    """Return numbers, one after the other, as a line with axes; ``name`` is what they are counted by.

    >>> curve([0.0, 1.0, 4.0], 300, 120, "step").size
    (300, 145)
    """
    series, margin = np.asarray(values, np.float64), 62
    frame = Frame.around(series, width - margin - 2, height)
    colours = np.tile(np.array(ACCENT, np.uint8), (len(series), 1))
    field = line(series, colours, np.ones(len(series)), frame, LIGHT)
    return with_axes(field, number_ticks(frame), whole_ticks(frame), margin, name)


def maximized_card(found: Maximized) -> Image.Image:
    """Return the picture beside the curve of its score."""
    picture = _shown(found.image)
    room = Room.around(picture.width)
    how = found.parameters
    climb = found.scores[:-1] if how["transforms"] else found.scores  # the last is of the picture at rest
    plot = curve(climb, room.column, picture.height - 24, "step")
    moved = " of it moved a little at each step;" if how["transforms"] else ""
    panels = [panel("the picture", picture, room)]
    panels += [_captioned(f"the score{moved} at rest, at last: {compact(found.score)}", plot, room)]
    size = "x".join(map(str, found.image.shape[:2]))
    about = f"{found.model} · maximize · {how['parametrization']} · {how['steps']} steps · {size} · seed {how['seed']}"
    return sheet(found.target.label, about, [panels], found.notes, room)


def counterfactual_card(found: Counterfactual) -> Image.Image:
    """Return both photos with their swapped cells, what the model says of each, and the score over the swaps."""
    photos = [(found.image, found.boxes()), (found.other_image, found.other_boxes())]
    pictures = [boxed(_shown(p), p.shape[:2], boxes) for p, boxes in photos]
    room = Room.around(max(p.width for p in pictures))
    words = (f"the photo: {found.source.label}", f"the other: {found.target.label}")
    panels = [panel(w, p, room) for w, p in zip(words, pictures, strict=True)]
    tables = [
        predictions_block([(p["label"], p["probability"]) for p in rows], label, room)
        for rows, label in ((found.predictions, found.source.label), (found.other_predictions, found.target.label))
    ]
    scores = [found.start, *(swap.score for swap in found.swaps)]
    plot = curve(scores, room.column, CURVE_HEIGHT, "swap")
    said = f"{found.said} of {found.target.label} after each swap"
    about = f"{found.model} · counterfactual · {found.layer}, {'x'.join(map(str, found.grid))} cells"
    title = f"{found.source.label} → {found.target.label}"
    return sheet(title, about, [panels, tables, [_captioned(said, plot, room)]], found.notes, room)


def boxed(picture: Image.Image, original: tuple[int, ...], boxes: Iterable[Box]) -> Image.Image:
    """Return a picture of an original (height, width) with numbered boxes (left, top, right, bottom) of it."""
    canvas = picture.copy()
    draw, face = ImageDraw.Draw(canvas), font(max(12, round(canvas.width / 34)), bold=True)
    across, down = canvas.width / original[1], canvas.height / original[0]
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        place = (left * across, top * down, right * across - 1, bottom * down - 1)
        draw.rectangle(place, outline=EDGE, width=5)
        draw.rectangle(tuple(np.add(place, (1, 1, -1, -1))), outline=BOX, width=3)
        draw.text((place[0] + 8, place[1] + 6), str(number), BOX, face, "la", stroke_width=2, stroke_fill=EDGE)
    return canvas


def _captioned(caption: str, plot: Image.Image, room: Room) -> Image.Image:
    words = text_block(caption, width=room.column, size=room.px(13), colour=MUTED, most_lines=1)
    return stack([words, plot], gap=room.px(6))


def _shown(pixels: np.ndarray[Any, Any]) -> Image.Image:
    """Return pixels at the size of a card's column; a tiny picture stays visible as squares."""
    photo = rgb(pixels)
    size = scaled_into(photo, SIDE, SIDE).size
    return resized_photo(photo, size)
