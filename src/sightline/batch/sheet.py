"""Rows of a store as pictures: one map over its original, or many of them on a contact sheet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from sightline.batch.functions import maps_of
from sightline.batch.unchanged import unchanged_picture, unchanged_series
from sightline.errors import InputError
from sightline.methods import METHODS
from sightline.render.compare import style_legend
from sightline.render.layout import Block, beside, padded, placed, scaled_into, stack
from sightline.render.palette import EMPTY, MUTED, Style
from sightline.render.photo import resized_photo, rgb
from sightline.render.signal import signal_cell, signal_plot
from sightline.render.table import probability_text
from sightline.render.text import font, text_block
from sightline.render.views import VIEWS, look_of, shown_map
from sightline.render.volume import volume_cell

__all__ = ["COLUMNS", "Draw", "Shown", "contact_sheet", "drawn", "name_of", "rows_of", "style_of"]

Draw = Literal["overlay", "heatmap"]

COLUMNS = (
    *("image", "image_hash", "width", "height", "model", "method", "layer", "asked", "target", "target_label", "score"),
    *("prediction", "prediction_label", "probability", "heatmap", "heatmap_scale", "error"),
)
"""The columns that a row is drawn from."""

TILE = 200
GAP = 14
MOST_PER_LINE = 6


@dataclass(frozen=True, eq=False)
class Shown:
    """A row to be drawn: its columns, and its heatmap (*S), or None where it has an error."""

    row: dict[str, Any]
    heatmap: np.ndarray | None

    @property
    def style(self) -> Style:
        """How its map is coloured."""
        return style_of(self.row["method"], self.heatmap)


def rows_of(batch: pa.RecordBatch | pa.Table, shape: Sequence[int]) -> Iterator[Shown]:
    """Yield the rows of an answer that has the columns that a row is drawn from."""
    column = batch.column("heatmap")
    maps = maps_of(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column, shape)
    known = column.is_valid().to_pylist()
    others = batch.select([name for name in batch.schema.names if name != "heatmap"]).to_pylist()
    for row, values, there in zip(others, maps, known, strict=True):
        yield Shown(row, values if there else None)


def style_of(method: str, heatmap: np.ndarray | None) -> Style:
    """Return how a method's maps are coloured; those of a method that is unknown here, by their signs."""
    if method in METHODS:
        return METHODS[method].style
    return "diverging" if heatmap is not None and bool((heatmap < 0).any()) else "sequential"


def name_of(uri: str, parts: int = 1) -> str:
    """Return the last parts of a URI: the file's name, or the member's.

    >>> name_of("/data/cats/one.png", 2), name_of("shard.tar#a/one.png"), name_of("no#1.png")
    ('cats/one.png', 'one.png', 'no#1.png')
    """
    inside = re.sub(r"(\.(?:tar|parquet|pq))#", r"\1/", uri.replace("\\", "/"))
    return "/".join(PurePosixPath(inside).parts[-parts:])


def drawn(shown: Shown, draw: Draw, side: int | None = None) -> Image.Image:
    """Draw a row's map over its original, or alone, as large as the original or into a square of ``side`` pixels.

    Raises InputError where the original is needed and is not there any more, or the row has an error.
    """
    heat = shown.heatmap
    if heat is None:
        raise InputError(str(shown.row["error"]))
    if heat.ndim == 1:
        return _drawn_series(shown, heat, draw)
    if heat.ndim == 3:
        return volume_cell(None, heat, style=shown.style, view="heatmap")
    return _drawn_picture(shown, heat, draw, side)


def contact_sheet(
    rows: Sequence[Shown],
    *,
    title: str,
    subtitle: str = "",
    draw: Draw = "overlay",
    columns: int | None = None,
    tick: Callable[[int], None] = lambda count: None,
) -> Image.Image:
    """Return rows as tiles with captions, and what their colours mean, as one RGB picture.

    Where an original is not there any more, its tile says so and shows the heatmap alone. ``tick`` is called with 1
    after each tile.
    """
    wide = columns or min(MOST_PER_LINE, len(rows))
    tiles = []
    for shown in rows:
        tiles.append(_tile(shown, draw, _caption(shown, rows)))
        tick(1)
    lines = [beside(tiles[i : i + wide], GAP) for i in range(0, len(tiles), wide)]
    width = max(wide * (TILE + GAP) - GAP, 420)
    heading = [
        text_block(title, width=width, size=20, bold=True, most_lines=3),
        text_block(subtitle, width=width, size=13, colour=MUTED, most_lines=2),
    ]
    return padded(stack([stack(heading, 4), stack(lines, 22), _legends(rows, width)], 20), 28)


def _tile(shown: Shown, draw: Draw, caption: Sequence[Block]) -> Image.Image:
    size = (TILE, TILE)
    try:
        picture = placed(scaled_into(drawn(shown, draw, TILE), *size), size, EMPTY)
    except InputError as error:
        picture = placed(_without(shown, str(error)), size, EMPTY)
    return stack([picture, stack(caption, 0)], 6)


def _without(shown: Shown, why: str) -> Image.Image:
    """Draw a row whose original is not there: the words on grey, and the map alone below them where there is one."""
    image = str(shown.row["image"])
    words, more = (why.replace(image, name_of(image)), 8) if shown.heatmap is None else (why.partition(":")[0], 2)
    said = text_block(words, width=TILE - 20, size=12, colour=MUTED, background=EMPTY, align="center", most_lines=more)
    if shown.heatmap is None:
        return said or Image.new("RGB", (1, 1), EMPTY)
    field = Image.new("RGB", (TILE, TILE), EMPTY)
    alone = scaled_into(drawn(shown, "heatmap", TILE), TILE - 56, TILE - 56)
    field.paste(alone, ((TILE - alone.width) // 2, 38 + (TILE - 56 - alone.height) // 2))
    if said:
        field.paste(said, (10, 10))
    return field


def _caption(shown: Shown, rows: Sequence[Shown]) -> list[Block]:
    row = shown.row
    names = {name_of(s.row["image"]): s.row["image"] for s in rows}
    parts = 1 if len(names) == len({s.row["image"] for s in rows}) else 2
    more = [row[key] for key in ("method", "model") if len({s.row[key] for s in rows}) > 1]
    lines = [_said(row), " · ".join(more)]
    return [
        text_block(_shortened(name_of(row["image"], parts)), width=TILE, size=12, bold=True, most_lines=1),
        *(text_block(line, width=TILE, size=12, colour=MUTED, most_lines=2) for line in lines),
    ]


def _shortened(name: str) -> str:
    """Leave out the middle of a long name, for its end tells files apart."""
    face = font(12, True)
    if face.getlength(name) <= TILE:
        return name
    fits = next(n for n in range(len(name), 0, -1) if face.getlength(f"{name[: n // 2]}…{name[-n // 2 :]}") <= TILE)
    return f"{name[: fits // 2]}…{name[-fits // 2 :]}"


def _said(row: dict[str, Any]) -> str:
    """Say what the model said, and what is explained where that is something else."""
    if row["prediction_label"] is None:
        return f"{row['method']}, {row['asked']}" if row["error"] else ""
    chance = "" if row["probability"] is None else f" ({probability_text(row['probability'])})"
    other = "" if row["target_label"] == row["prediction_label"] else f" · why “{row['target_label']}”?"
    return f"{row['prediction_label']}{chance}{other}"


def _legends(rows: Sequence[Shown], width: int) -> Block:
    maps = [s for s in rows if s.heatmap is not None]
    styles: list[Style] = list(dict.fromkeys(s.style for s in maps))
    unseen = any(bool(np.isnan(s.heatmap).any()) for s in maps if s.heatmap is not None)
    series = any(s.heatmap.ndim == 1 for s in maps if s.heatmap is not None)
    keys = [style_legend(s, None, not_seen=unseen and s == styles[0], series=series) for s in styles]
    return (
        scaled_into(beside(keys, 28), width, 400) if keys and sum(k.width for k in keys) > width else beside(keys, 28)
    )


def _drawn_picture(shown: Shown, heat: np.ndarray, draw: Draw, side: int | None) -> Image.Image:
    row, (high, wide) = shown.row, heat.shape
    photo = None if draw == "heatmap" else rgb(unchanged_picture(row["image"], row["image_hash"]))
    size = _into(photo.size if photo else (row["width"] or wide, row["height"] or high), side)
    below = resized_photo(photo, size) if photo else Image.new("RGB", size)
    percentile = 100.0 if row["layer"] else 99.5  # pixel maps have outliers, layer maps do not
    look = look_of(draw, heat, shown.style, None, percentile, None, 0.5)
    return VIEWS[draw](np.asarray(below), *shown_map(heat, size, look))


def _drawn_series(shown: Shown, heat: np.ndarray, draw: Draw) -> Image.Image:
    looks: dict[str, Any] = {"style": shown.style, "percentile": 100.0}
    if draw == "heatmap":
        return signal_plot(None, heat[None], **looks)
    signal = unchanged_series(shown.row["image"], shown.row["image_hash"])
    at = (np.arange(signal.shape[1]) + 0.5) / signal.shape[1] * len(heat) - 0.5
    return signal_cell(signal, np.interp(at, np.arange(len(heat)), heat)[None], **looks)


def _into(size: tuple[int, int], side: int | None) -> tuple[int, int]:
    factor = 1.0 if side is None else side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
