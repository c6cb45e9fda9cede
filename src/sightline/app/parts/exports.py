"""A comparison as files: one picture of the whole grid, and its numbers as tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sightline.app.grid import Cell, outcome_known, passes_of
from sightline.app.parts.axes import Axes
from sightline.app.parts.looks import Looks, drawn
from sightline.app.subject import Subject
from sightline.explanation import Explanation
from sightline.render.compare import style_legend
from sightline.render.grid import grid
from sightline.render.html import png_bytes

__all__ = ["grid_png", "matrix_csv", "numbers_csv"]

_SIDE = 560
_HEAD = (
    *("picture", "model", "class_asked", "class", "index", "probability", "method", "parameters", "layer"),
    *("output", "score", "seconds", "passes", "refused"),
)


def grid_png(subject: Subject, axes: Axes, looks: Looks) -> bytes:
    """Return the grid as one labelled picture."""
    found = [outcome_known(subject, cell) for cell in axes.cells.values()]
    styles = dict.fromkeys(e.style for e in found if isinstance(e, Explanation))
    return png_bytes(
        grid(
            [[_picture(subject, axes.at(row, column), looks) for column in axes.columns] for row in axes.rows],
            row_labels=[row.name.replace("\n", ": ") for row in axes.rows],
            column_labels=[column.name for column in axes.columns],
            title=subject.name,
            legends=[style_legend(style, looks.colormap) for style in styles],
        )
    )


def _picture(subject: Subject, cell: Cell, looks: Looks) -> Image.Image | str | None:
    found = outcome_known(subject, cell)
    if not isinstance(found, Explanation):
        return found
    picture: Image.Image = drawn(found, looks)
    picture.thumbnail((_SIDE, _SIDE))
    return picture


def numbers_csv(subject: Subject, cells: Sequence[Cell]) -> bytes:
    """Return a row of numbers for each cell."""
    return _csv([_HEAD, *(_row(subject, cell) for cell in cells)])


def _row(subject: Subject, cell: Cell) -> list[object]:
    found = outcome_known(subject, cell)
    e = found if isinstance(found, Explanation) else None
    parameters = " ".join(f"{name}={value}" for name, value in cell.asked.parameters)
    known = (e.layer or "", cell.asked.output, e.score, e.seconds, passes_of(subject, cell)) if e else ("",) * 5
    why = found if isinstance(found, str) else ""
    chance = "" if np.isnan(cell.chance) else cell.chance
    asked = (cell.wanted, cell.label, "" if cell.why else cell.asked.target, chance, cell.asked.method, parameters)
    return [subject.name, cell.model, *asked, *known, why]


def matrix_csv(names: Sequence[str], values: np.ndarray) -> bytes:
    """Return the rank correlations of the maps by two names each."""
    return _csv([["", *names], *([name, *row] for name, row in zip(names, values.tolist(), strict=True))])


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([["" if v is None else v for v in row] for row in rows])
    return stream.getvalue().encode()
