"""What the colours of a picture mean: a colour bar with its ends in words, and a swatch for "not seen"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.render.layout import Block, beside, framed, stack
from sightline.render.palette import MUTED, PAPER, Style, colour_table, colourise, known_style
from sightline.render.photo import hatching
from sightline.render.scale import Limits, checked_limits
from sightline.render.text import compact, font, text_block

__all__ = ["legend"]

ENDS: dict[Style, tuple[str, str]] = {
    "sequential": ("less important", "more important"),
    "diverging": ("against", "for"),
    "grey": ("less sensitive", "more sensitive"),
}


def legend(
    limits: Limits | None,
    *,
    style: Style,
    width: int = 480,
    colormap: str | None = None,
    units: str | None = None,
    share_of: str = "the largest value",
    ends: tuple[str, str] | None = None,
    beyond: tuple[bool, bool] = (False, False),
    not_seen: bool = False,
    over_photo: bool = True,
    zoom: float = 1.0,
) -> Image.Image:
    """Return an RGB colour bar ``width`` pixels wide, low on the left, ticks at ends, middle and zero.

    With ``units`` (what the numbers are) the ticks are values; without, they are shares of the larger limit,
    which ``share_of`` names. ``ends`` are the words for low and high. ``beyond`` says at which end values lie
    outside the limits; its tick gets a ≤ or ≥. Where ``not_seen``, the hatching of what the model did not
    see is shown below, ``over_photo`` or over light grey. ``limits`` None leaves out the bar, ``zoom`` scales
    the text. Raises ParameterError for a style or colormap that does not exist.

    >>> legend((-2.0, 2.0), style="diverging", width=300).width
    300
    """
    words, size = ends or ENDS[known_style(style)], round(13 * zoom)
    bar: list[Block] = []
    if limits is not None:
        bar = [
            text_block(units or f"share of {share_of}", width=width, size=size, colour=MUTED, most_lines=2),
            _gradient(colour_table(colormap, style), width, round(16 * zoom)),
            _ticks(
                _tick_texts(checked_limits(limits, style), style, beyond, units is None),
                width,
                round(12 * zoom),
            ),
            _two_words(*words, width, size),
        ]
    swatch = _swatch(width, over_photo, zoom) if not_seen else None
    return stack([stack(bar, gap=round(4 * zoom)) if bar else None, swatch], gap=round(10 * zoom))


def _swatch(width: int, over_photo: bool, zoom: float) -> Image.Image:
    size = (round(34 * zoom), round(16 * zoom))
    large = (12 * size[0], 12 * size[0])
    patch = hatching(large, Image.new("RGB", large, (150, 150, 150)) if over_photo else None).crop((0, 0, *size))
    gap = round(10 * zoom)
    room = width - size[0] - gap - 2
    words = text_block("not seen by the model", width=room, size=round(13 * zoom), colour=MUTED)
    return beside([framed(patch), words], gap=gap)


def _gradient(table: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    positions = np.tile(np.linspace(0, 1, max(width - 2, 1)), (height, 1))
    return framed(Image.fromarray(colourise(positions, table)))


def _two_words(left: str, right: str, width: int, size: int) -> Image.Image:
    half, gap = (width - size) // 2, size
    return beside(
        [
            text_block(left or " ", width=half, size=size, most_lines=1),
            text_block(right or " ", width=width - half - gap, size=size, most_lines=1, align="right"),
        ],
        gap,
    )


def _ticks(texts: list[tuple[float, str]], width: int, size: int) -> Image.Image:
    row, face = Image.new("RGB", (width, round(size * 1.8)), PAPER), font(size)
    draw = ImageDraw.Draw(row)
    for place, text in texts:
        x = round(place * (width - 1))
        draw.line((x, 0, x, round(size * 0.3)), MUTED)
        anchor = "ls" if place == 0 else "rs" if place == 1 else "ms"
        draw.text((x, round(size * 1.45)), text, MUTED, face, anchor)
    return row


def _tick_texts(limits: Limits, style: Style, beyond: tuple[bool, bool], as_shares: bool) -> list[tuple[float, str]]:
    low, high = limits
    if low == high:
        return [(0.5 if style == "diverging" else 0.0, compact(low))]
    marks = {low: "≤ " * beyond[0], high: "≥ " * beyond[1]}
    middle = 0.0 if low < 0 < high else low / 2 + high / 2
    places = {value: _place(value, low, high) for value in (low, middle, high)}
    if not 0.15 < places[middle] < 0.85:
        del places[middle]
    unit = max(abs(low), abs(high))
    return [
        (
            place,
            marks.get(value, "") + (f"{compact(100 * (value / unit))} %" if as_shares else compact(value)),
        )
        for value, place in places.items()
    ]


def _place(value: float, low: float, high: float) -> float:
    # Quotients before differences: limits may be as far apart as floats can be.
    unit = max(abs(low), abs(high))
    return (value / unit - low / unit) / (high / unit - low / unit)
