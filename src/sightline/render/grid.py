"""Tables of pictures: methods by targets by models, each cell a picture or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from sightline.errors import ParameterError
from sightline.render.layout import Block, beside, padded, placed, scaled_into, stack
from sightline.render.palette import EMPTY, MUTED, PAPER
from sightline.render.text import font, printable, text_block

__all__ = ["Cell", "grid"]

Cell = Image.Image | str | None
"""A picture, or the reason why there is none, or nothing."""

GAP = 10
LABEL = 13


def grid(
    cells: Sequence[Sequence[Cell]],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str | None = None,
    legends: Sequence[Image.Image] = (),
    notes: Sequence[str] = (),
    cell_width: int | None = None,
) -> Image.Image:
    """Return a labelled table of pictures as one RGB image: a row of cells for each row label.

    A cell is an image, scaled to fit; or a text such as "refused: no ReLU", or None, both drawn as an empty
    field. All cells have one size: ``cell_width`` pixels, unless given what makes the grid at most about 1800
    pixels wide, and as high as the pictures are in proportion. ``legends`` stand below in a row, ``notes``
    under them. Raises ParameterError where labels and cells do not match.

    >>> cells = [[Image.new("RGB", (80, 60)), "refused: no ReLU"]]
    >>> grid(cells, row_labels=["guided"], column_labels=["dog", "cat"], cell_width=100).mode
    'RGB'
    """
    _check(cells, row_labels, column_labels)
    width = cell_width or max(min(280, 1600 // max(len(column_labels), 1)), 96)
    size = (width, _cell_height(cells, width))
    side = _side_width(row_labels)
    rows = [_row(label, row, size, side) for label, row in zip(row_labels, cells, strict=True)]
    body = stack([_header(column_labels, width, side), *rows], gap=GAP)
    foot = [_flow(legends, body.width), *_notes(notes, body.width)]
    heading = text_block(title or "", width=body.width, size=20, bold=True, most_lines=2)
    return padded(stack([heading, body, *foot], gap=18), 28)


def _check(cells: Sequence[Sequence[Cell]], rows: Sequence[str], columns: Sequence[str]) -> None:
    lengths = {len(row) for row in cells}
    if len(cells) != len(rows) or lengths - {len(columns)}:
        came = f"{len(cells)} rows of {sorted(lengths)} cells"
        raise ParameterError(f"a grid of {len(rows)} row and {len(columns)} column labels was given {came}")


def _cell_height(cells: Sequence[Sequence[Cell]], width: int) -> int:
    pictures = [cell for row in cells for cell in row if isinstance(cell, Image.Image)]
    highest = max((width * p.height / p.width for p in pictures), default=width * 0.6)
    return round(min(max(highest, 24), 1.6 * width))


def _side_width(labels: Sequence[str]) -> int:
    face = font(LABEL, bold=True)
    return round(min(max((face.getlength(printable(label)) for label in labels), default=0) + 2, 190))


def _header(labels: Sequence[str], width: int, side: int) -> Image.Image:
    words = [text_block(text, width=width, size=LABEL, bold=True, align="center", most_lines=3) for text in labels]
    height = max((block.height for block in words if block), default=1)
    return beside([_blank(side, height), *(_at_bottom(block, width, height) for block in words)], GAP)


def _row(label: str, cells: Sequence[Cell], size: tuple[int, int], side: int) -> Image.Image:
    words = text_block(label, width=max(side, 1), size=LABEL, bold=True, most_lines=4)
    height = max(size[1], words.height if words else 0)
    head = placed(words or _blank(side, 1), (max(side, 1), height))
    return beside([head, *(placed(_field(cell, size), (size[0], height)) for cell in cells)], GAP)


def _field(cell: Cell, size: tuple[int, int]) -> Image.Image:
    if isinstance(cell, Image.Image):
        return placed(scaled_into(cell.convert("RGB"), *size), size)
    field = Image.new("RGB", size, EMPTY)
    room = size[0] - 20
    words = text_block(cell or "", width=room, size=12, colour=MUTED, background=EMPTY, align="center", most_lines=5)
    return placed(words, size, EMPTY) if words else field


def _flow(legends: Sequence[Image.Image], width: int) -> Block:
    lines: list[list[Image.Image]] = [[]]
    for block in legends:
        if lines[-1] and sum(b.width + 28 for b in lines[-1]) + block.width > width:
            lines.append([])
        lines[-1].append(block)
    return stack([beside(line, 28) for line in lines], gap=14) if legends else None


def _notes(notes: Sequence[str], width: int) -> list[Block]:
    return [text_block(note, width=width, size=12, colour=MUTED) for note in notes]


def _at_bottom(block: Block, width: int, height: int) -> Image.Image:
    sheet = _blank(width, height)
    if block:
        sheet.paste(block, (0, height - block.height))
    return sheet


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (max(width, 1), height), PAPER)
