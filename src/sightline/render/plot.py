"""Lines and bars over the points of a series, each in a colour of its own, and the axes around them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.render.layout import framed
from sightline.render.palette import EMPTY, MUTED, PAPER, RGB
from sightline.render.text import compact, font

__all__ = ["LIGHT", "Frame", "bars", "ground_of", "line", "number_ticks", "whole_ticks", "with_axes"]

Ticks = list[tuple[float, str]]
"""Places in pixels with what is written there."""

LIGHT: RGB = (255, 255, 255)
DARK: RGB = (62, 69, 80)
# Around the line, which has the colour of its ground where the attribution is zero.
CASING: RGB = (128, 136, 147)
CORE = 3.0
SHARP = 3  # drawn so many times larger and averaged: Pillow's lines have steps
FEW = 90
MOST_TICKS = 5
GRID_ON_DARK: RGB = (76, 84, 96)


class Frame(NamedTuple):
    """The field of a plot: its size in pixels, how many points lie across, and the values at bottom and top."""

    width: int
    height: int
    points: int
    low: float
    high: float

    @classmethod
    def around(cls, values: NDArray[Any], width: int, height: int) -> Frame:
        """Return a frame that holds all values, with a margin."""
        low, high = float(values.min()), float(values.max())
        margin = (high / 2 - low / 2) * 0.14 or abs(high) * 0.1 or 1.0
        return cls(width, height, len(values), low - margin, high + margin)

    def x(self, point: float) -> float:
        """Return where a point lies across: in the middle of its share of the width."""
        return (point + 0.5) * self.width / self.points

    def y(self, value: float) -> float:
        """Return where a value lies, from the top."""
        return (1 - (value - self.low) / (self.high - self.low)) * self.height


def line(
    values: NDArray[Any], colours: NDArray[np.uint8], strengths: NDArray[Any], frame: Frame, ground: RGB
) -> Image.Image:
    """Return values (L,) as a line in colours (L, 3) on a ground.

    Where there are more points than pixels a pixel spans all of its points, in the colour of the one with the
    largest of ``strengths`` (L,).
    """
    canvas, draw = _canvas(frame, ground)
    for tick in _nice(frame.low, frame.high, MOST_TICKS):
        y = frame.y(tick) * SHARP
        draw.line((0, y, canvas.width, y), EMPTY if ground == LIGHT else GRID_ON_DARK, SHARP)
    if frame.points > frame.width:
        _draw_spans(draw, values, colours, strengths, frame)
    else:
        _draw_strokes(draw, values, colours, frame)
    return canvas.reduce(SHARP)


def bars(values: NDArray[Any], colours: NDArray[np.uint8], frame: Frame, ground: RGB) -> Image.Image:
    """Return values (L,) as bars from zero in colours (L, 3) on a ground, cut off at the frame.

    Where there are more points than pixels a pixel shows the largest of its points.
    """
    canvas, draw = _canvas(frame, ground)
    zero = frame.y(min(max(0.0, frame.low), frame.high)) * SHARP
    kept = values.clip(frame.low, frame.high)
    places = _strongest(np.abs(values), frame) if frame.points > frame.width else np.arange(frame.points)
    step = canvas.width / len(places)
    gap = SHARP / 2 if step > 6 * SHARP else 0
    for n, place in enumerate(places):
        ends = sorted((zero, frame.y(float(kept[place])) * SHARP))
        if ends[1] - ends[0] >= 1:
            left = n * step + gap
            draw.rectangle((left, ends[0], max((n + 1) * step - gap - 1, left), ends[1]), tuple(colours[place]))
    draw.line((0, zero, canvas.width, zero), CASING, SHARP)
    return canvas.reduce(SHARP)


def with_axes(
    field: Image.Image, left: Ticks, below: Ticks, margin: int, name: str = "", size: int = 12
) -> Image.Image:
    """Return a plot in a frame with ticks at places from its top (``left``) and from its left side (``below``).

    ``margin`` is the room for the numbers on the left; ``name`` is that of the axis below, which is left out
    where it has no ticks.
    """
    foot = round(size * 1.9) if below else 0
    sheet = Image.new("RGB", (margin + field.width + 2, field.height + 2 + foot), PAPER)
    sheet.paste(framed(field), (margin, 0))
    draw, face = ImageDraw.Draw(sheet), font(size)
    for y, text in left:
        at = min(max(y, size * 0.45), field.height - size * 0.45) + 1
        draw.line((margin - 4, y + 1, margin, y + 1), MUTED)
        draw.text((margin - 8, at), text, MUTED, face, "rm")
    bottom = field.height + 2
    for x, text in below:
        draw.line((margin + 1 + x, bottom, margin + 1 + x, bottom + 4), MUTED)
        half = face.getlength(text) / 2
        draw.text((min(margin + 1 + x, sheet.width - half), bottom + size * 1.5), text, MUTED, face, "ms")
    if below:
        draw.text((margin - 8, bottom + size * 1.5), name, MUTED, face, "rs")
    return sheet


def number_ticks(frame: Frame, most: int = MOST_TICKS) -> Ticks:
    """Return round numbers on the upright axis of a frame.

    >>> number_ticks(Frame(100, 100, 5, 0.0, 2.0))
    [(100.0, '0.0'), (75.0, '0.5'), (50.0, '1.0'), (25.0, '1.5'), (0.0, '2.0')]
    """
    found = _nice(frame.low, frame.high, most)
    step = found[1] - found[0] if len(found) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = 1e-3 <= max(map(abs, found)) < 1e6 and decimals <= 6
    texts = [f"{t:.{decimals}f}".replace("-", "−") if plain else compact(t) for t in found]
    return [(frame.y(t), text) for t, text in zip(found, texts, strict=True)]


def whole_ticks(frame: Frame, most: int = 8) -> Ticks:
    """Return round numbers of points across a frame, counted from 0.

    >>> [text for _, text in whole_ticks(Frame(100, 100, 25, 0.0, 1.0))]
    ['0', '5', '10', '15', '20']
    """
    found = [t for t in _nice(0, max(frame.points - 1, 1), most) if t == round(t) and t < frame.points]
    return [(frame.x(t), f"{t:.0f}") for t in found]


def ground_of(table: NDArray[np.uint8], zero: float) -> RGB:
    """Return a light or dark ground, whichever is nearer the colour at the place of zero (0..1) in a colour table.

    So what does not matter recedes, and what matters stands out.

    >>> ground_of(np.array([[0, 0, 0], [255, 255, 255]], np.uint8), 1.0) == LIGHT
    True
    """
    red, green, blue = (float(v) for v in table[round(zero * (len(table) - 1))])
    return LIGHT if 0.3 * red + 0.59 * green + 0.11 * blue > 127 else DARK


def _canvas(frame: Frame, ground: RGB) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (frame.width * SHARP, frame.height * SHARP), ground)
    return canvas, ImageDraw.Draw(canvas)


def _draw_strokes(draw: ImageDraw.ImageDraw, values: NDArray[Any], colours: NDArray[np.uint8], frame: Frame) -> None:
    points = [(frame.x(i) * SHARP, frame.y(float(v)) * SHARP) for i, v in enumerate(values)]
    dot = CORE + 0.5 if len(points) <= FEW else CORE / 2
    for extra in (1.0, 0.0):  # the casing of all first, then what it encloses
        width = round((CORE + 2 * extra) * SHARP)
        for i, (x, y) in enumerate(points):
            colour = CASING if extra else tuple(colours[i])
            for other in points[max(i - 1, 0) : i] + points[i + 1 : i + 2]:
                draw.line((x, y, (x + other[0]) / 2, (y + other[1]) / 2), colour, width)
            reach = (dot + extra) * SHARP
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), colour)


def _draw_spans(
    draw: ImageDraw.ImageDraw,
    values: NDArray[Any],
    colours: NDArray[np.uint8],
    strengths: NDArray[Any],
    frame: Frame,
) -> None:
    starts = _starts(frame)
    joined = np.append(values, values[-1:])  # a pixel reaches as far as the next one's first point: no gaps
    ends = np.append(starts[1:], frame.points)
    spans = [(joined[a : b + 1].min(), joined[a : b + 1].max()) for a, b in zip(starts, ends, strict=True)]
    places = _strongest(strengths, frame)
    for extra in (1.0, 0.0):
        reach = (CORE / 2 + extra) * SHARP
        for n, (low, high) in enumerate(spans):
            colour = CASING if extra else tuple(colours[places[n]])
            left, right = (n - extra) * SHARP, (n + 1 + extra) * SHARP - 1
            draw.rectangle(
                (left, frame.y(float(high)) * SHARP - reach, right, frame.y(float(low)) * SHARP + reach), colour
            )


def _starts(frame: Frame) -> NDArray[np.int64]:
    return np.arange(frame.width, dtype=np.int64) * frame.points // frame.width


def _strongest(strengths: NDArray[Any], frame: Frame) -> NDArray[np.int64]:
    starts = _starts(frame)
    ends = np.append(starts[1:], frame.points)
    return np.array([a + int(np.argmax(strengths[a:b])) for a, b in zip(starts, ends, strict=True)])


def _nice(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` + 1 round numbers from low to high, evenly apart."""
    span = high - low
    if not 0 < span < math.inf:
        return [low]
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m * most >= span * 0.999)
    return [n * step + 0.0 for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
