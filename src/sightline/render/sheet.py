"""The paper of a card: its two columns, heading, panels, predictions and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from sightline.render.layout import Block, beside, framed, hairline, padded, stack
from sightline.render.palette import INK, MUTED, PAPER
from sightline.render.table import Prediction, prediction_table
from sightline.render.text import text_block

__all__ = ["Room", "panel", "predictions_block", "sheet"]

NARROWEST = 400
GUTTER = 28


class Room(NamedTuple):
    """The width of one of the two columns, and how large text is on it."""

    column: int
    zoom: float

    @classmethod
    def around(cls, width: int) -> Room:
        """Return the room that a picture ``width`` pixels wide asks for."""
        column = max(width + 2, NARROWEST)
        return cls(column, min(max(column / 600, 0.92), 1.4))

    def px(self, length: float) -> int:
        """Return a length on a card of usual size as pixels of this one."""
        return round(length * self.zoom)

    @property
    def both(self) -> int:
        """The width of both columns and what is between them."""
        return 2 * self.column + self.px(GUTTER)


def panel(caption: str, picture: Image.Image, room: Room) -> Image.Image:
    """Return a framed picture under its caption."""
    words = text_block(caption, width=room.column, size=room.px(13), colour=MUTED, most_lines=1)
    return stack([words, framed(picture)], gap=room.px(6))


def predictions_block(rows: list[Prediction], explained: str | None, room: Room) -> Image.Image:
    """Return the table of predictions under its caption, or nothing as wide."""
    if not rows:
        return hairline(room.column, PAPER)
    words = text_block("what the model says", width=room.column, size=room.px(13), colour=MUTED)
    table = prediction_table(rows, explained=explained, width=room.column, zoom=room.zoom)
    return stack([words, table], gap=room.px(4))


def sheet(title: str, subtitle: str, rows: list[list[Image.Image]], notes: Sequence[str], room: Room) -> Image.Image:
    """Return title, subtitle, rows of blocks and notes as the finished card."""
    gap, width = room.px(GUTTER), room.both
    heading = [
        text_block(title, width=width, size=room.px(23), bold=True, most_lines=2),
        text_block(subtitle, width=width, size=room.px(14), colour=MUTED, most_lines=2),
    ]
    foot: list[Block] = [text_block(note, width=width, size=room.px(13), colour=INK, most_lines=3) for note in notes]
    body: list[Block] = [stack(heading, room.px(5)), *(beside(row, gap) for row in rows)]
    ending: list[Block] = [hairline(width), stack(foot, room.px(5))] if any(foot) else []
    return padded(stack([*body, *ending], room.px(20)), room.px(34))
