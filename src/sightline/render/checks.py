"""What checks say of an explanation, as rows of mark, question and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from PIL import Image, ImageDraw

from sightline.render.layout import beside, stack
from sightline.render.palette import INK, MUTED, PAPER, RGB
from sightline.render.sheet import Room
from sightline.render.text import font, text_block

__all__ = ["Check", "Checks", "checks_block"]

Verdict = Literal["yes", "partly", "no", "unknown"]

# Each mark has a shape of its own beside its colour, and the answer begins with the word.
_COLOURS: Mapping[Verdict, RGB] = {"yes": (23, 112, 84), "partly": (150, 96, 0), "no": (170, 38, 38), "unknown": MUTED}
_SHARP = 4


class Check(NamedTuple):
    """One row: the verdict and its mark, the question, and the answer in words."""

    verdict: Verdict
    mark: str
    question: str
    words: str


class Checks(NamedTuple):
    """A line above, and the rows."""

    headline: str
    rows: Sequence[Check]


def checks_block(checks: Checks | None, room: Room) -> list[list[Image.Image]]:
    """Return the checks as a row of a sheet, both columns wide; nothing where there are none.

    >>> row = Check("no", "✗", "Is it stable?", "No. It is not.")
    >>> checks_block(Checks("0 of 1", [row]), Room(600, 1.0))[0][0].width
    1228
    """
    if checks is None:
        return []
    head = text_block(checks.headline, width=room.both, size=room.px(15), bold=True, most_lines=2)
    return [[stack([head, *(_row(c, room) for c in checks.rows)], gap=room.px(9))]]


def _row(check: Check, room: Room) -> Image.Image:
    size, gap = room.px(13), room.px(10)
    mark = _marked(check, room.px(18))
    asked = round(room.both * 0.24)
    question = text_block(check.question, width=asked, size=size, bold=True, most_lines=3)
    width = room.both - mark.width - asked - 2 * gap
    words = text_block(check.words, width=width, size=size, colour=INK, most_lines=4)
    blocks: list[Any] = [mark, question, words]
    return beside([b for b in blocks if b], gap)


def _marked(check: Check, side: int) -> Image.Image:
    """Return the mark, light on a disc of its colour: empty where there is no verdict."""
    large, colour = side * _SHARP, _COLOURS[check.verdict]
    disc = Image.new("RGB", (large, large), PAPER)
    draw, hollow = ImageDraw.Draw(disc), check.verdict == "unknown"
    ends = (_SHARP, _SHARP, large - _SHARP, large - _SHARP)
    draw.ellipse(ends, PAPER if hollow else colour, colour, 2 * _SHARP)
    face = font(round(large * 0.62), bold=True)
    draw.text((large / 2, large / 2), check.mark, colour if hollow else PAPER, face, "mm")
    return disc.reduce(_SHARP)
