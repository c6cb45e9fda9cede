"""What the model said, as rows of label, bar and number."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image, ImageDraw

from sightline.render.layout import stack
from sightline.render.palette import ACCENT, BAR, EMPTY, INK, MUTED, PAPER
from sightline.render.text import compact, ellipsis, font

__all__ = ["Prediction", "prediction_table", "probability_text"]

Prediction = tuple[str, float]
"""A label and its probability, 0 to 1."""


def prediction_table(
    rows: Iterable[Prediction], *, explained: str | None = None, width: int = 320, zoom: float = 1.0
) -> Image.Image:
    """Return an RGB table of labels, bars and probabilities, in the order they come; no rows say so.

    The row of the label that is ``explained`` stands out. Bars end at 0 and 1, numbers beyond that (scores
    that are no probabilities) are printed as they are. ``zoom`` scales the text.

    >>> prediction_table([("bull mastiff", 0.83), ("tiger cat", 0.06)], width=300).size
    (300, 52)
    """
    lines = [_row(label, value, label == explained, width, zoom) for label, value in rows]
    return stack(lines or [_nothing(width, zoom)])


def probability_text(value: float) -> str:
    """Return a probability with two decimals, and never 0.00 or 1.00 for one that is neither.

    >>> [probability_text(p) for p in (0.8312, 0.0004, 0.99991, 1.0, 17.25)]
    ['0.83', '<0.01', '>0.99', '1.00', '17.2']
    """
    if not 0 <= value <= 1:
        return compact(value)
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def _row(label: str, value: float, explained: bool, width: int, zoom: float) -> Image.Image:
    height, size = round(26 * zoom), round(13 * zoom)
    row, face = Image.new("RGB", (width, height), PAPER), font(size, explained)
    draw, baseline = ImageDraw.Draw(row), round(height / 2 + size * 0.36)
    names, numbers = round(width * 0.46), round(size * 3.6)
    draw.text((0, baseline), ellipsis(label, face, names - size), INK, face, "ls")
    _bar(draw, (names, round(height * 0.3), width - numbers, round(height * 0.7)), value, explained)
    number = probability_text(value)
    draw.text((width, baseline), number, INK if explained else MUTED, font(size, explained), "rs")
    return row


def _bar(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], value: float, explained: bool) -> None:
    left, top, right, bottom = box
    if right <= left:
        return
    draw.rectangle(box, EMPTY)
    length = round((right - left) * min(max(value, 0.0), 1.0)) if value == value else 0
    if length:
        draw.rectangle((left, top, left + length, bottom), ACCENT if explained else BAR)


def _nothing(width: int, zoom: float) -> Image.Image:
    row, size = Image.new("RGB", (width, round(26 * zoom)), PAPER), round(13 * zoom)
    ImageDraw.Draw(row).text((0, round(18 * zoom)), "no predictions", MUTED, font(size), "ls")
    return row
