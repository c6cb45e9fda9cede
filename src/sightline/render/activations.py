"""All channels of a layer at a glance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.errors import InputError
from sightline.render.layout import Block, framed, padded, stack
from sightline.render.legend import legend
from sightline.render.overlay import heatmap_image
from sightline.render.palette import MUTED, PAPER, Style
from sightline.render.scale import Limits, limits
from sightline.render.text import font, text_block

__all__ = ["activation_grid"]

LINE = (128, 136, 147)
WIDTH, LARGEST_TILE, SMALLEST_NUMBERED = 1400, 200, 34


def activation_grid(
    maps: NDArray[Any],
    *,
    title: str | None = None,
    style: Style | None = None,
    colormap: str | None = None,
    per_channel: bool = False,
    numbered: bool = True,
) -> Image.Image:
    """Return all channels of a layer, real (C, h, w), in a nearly square grid, as one RGB image.

    All channels share the scale of the whole layer, so that they can be compared; ``per_channel`` gives each
    its own, so that weak ones can be seen. ``style`` is ``sequential``, or ``diverging`` where there are
    negative values, unless given. Channels are counted from 0, along the rows; ``numbered`` prints the number
    where there is room. Raises InputError for another shape or infinite values, ParameterError for a style or
    colormap that does not exist.

    >>> activation_grid(np.eye(7)[None].repeat(8, 0), title="layer4").mode
    'RGB'
    """
    layer = _checked_layer(maps)
    way: Style = style or ("diverging" if (layer < 0).any() else "sequential")
    shared = limits(layer.reshape(len(layer), -1), way)
    pictures = [
        heatmap_image(channel, style=way, colormap=colormap, limits=None if per_channel else shared)
        for channel in layer
    ]
    sheet = _sheet(pictures, numbered)
    width = max(sheet.width, 480)
    count, high, wide = layer.shape
    scales = "each on its own scale" if per_channel else "on one scale"
    subtitle = f"{count} channel{'s' * (count > 1)} of {high} × {wide}, {scales}"
    blocks = [
        text_block(title or "", width=width, size=20, bold=True, most_lines=2),
        text_block(subtitle, width=width, size=13, colour=MUTED),
        sheet,
        _key(shared, way, colormap, per_channel),
    ]
    return padded(stack(blocks, gap=14), 28)


def _checked_layer(maps: NDArray[Any]) -> NDArray[Any]:
    layer = np.asarray(maps)
    if layer.ndim != 3 or not layer.size:
        raise InputError(f"the channels of a layer are a non-empty (C, h, w) array, this is {layer.shape}")
    return layer


def _key(shared: Limits, way: Style, colormap: str | None, per_channel: bool) -> Block:
    if not per_channel:
        return legend(shared, style=way, colormap=colormap, units="activation", ends=("low", "high"))
    if way == "sequential" and shared[0] < 0:
        # The lowest value lies elsewhere on the scale of every channel: one bar would be wrong for all.
        return None
    own = (-1.0 if way == "diverging" else 0.0, 1.0)
    return legend(own, style=way, colormap=colormap, share_of="each channel's largest value", ends=("low", "high"))


def _sheet(pictures: list[Image.Image], numbered: bool) -> Image.Image:
    columns, tile = _shape(len(pictures), pictures[0].size)
    gap, foot = (8, 17) if numbered and tile[0] >= SMALLEST_NUMBERED else (1, 1)
    step = (tile[0] + gap, tile[1] + foot)
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * step[0] + 2 - gap + 1, rows * step[1] + 1), PAPER)
    draw, face = ImageDraw.Draw(sheet), font(11)
    for n, picture in enumerate(pictures):
        x, y = n % columns * step[0], n // columns * step[1]
        sheet.paste(framed(picture.resize(tile, Image.Resampling.BOX), LINE), (x, y))
        if foot > 1:
            draw.text((x + 1, y + tile[1] + 14), str(n), MUTED, face, "ls")
    return sheet


def _shape(count: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Return how many columns make the grid nearly square, and the size of a tile."""
    wide, high = size
    columns = min(max(round(math.sqrt(count * high / wide)), 1), count)
    width = max(min(WIDTH // columns, LARGEST_TILE), 12)
    width = width // wide * wide or width  # whole pixels for every value, where there is room
    return columns, (width, max(round(width * high / wide), 1))
