"""The colours of every picture: a few for the paper around it, and the colormaps of the heatmaps.

Matplotlib is read for its tables of colours only, when the first is asked for; its state is never touched.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ParameterError, suggest

__all__ = ["DEFAULT_COLORMAPS", "Style", "colour_table", "colourise"]

Style = Literal["sequential", "diverging", "grey"]
"""How a map is coloured: importance from low to high, evidence for and against, or plain sensitivity."""

RGB = tuple[int, int, int]

PAPER: RGB = (252, 252, 250)
INK: RGB = (31, 35, 40)
MUTED: RGB = (94, 103, 114)
HAIRLINE: RGB = (222, 225, 229)
EMPTY: RGB = (241, 242, 243)
BAR: RGB = (173, 182, 193)
ACCENT: RGB = (38, 84, 124)

# Chosen by looking at photographs: inferno's low end darkens the picture without tinting it and its top
# is the brightest spot there is; viridis, plasma and jet tint everything that does not matter.
DEFAULT_COLORMAPS: dict[Style, str] = {"sequential": "inferno", "diverging": "RdBu_r", "grey": "gray"}

# Odd, so that a diverging map has a colour for exactly zero.
STEPS = 257


def colour_table(colormap: str | None, style: Style) -> NDArray[np.uint8]:
    """Return the (257, 3) uint8 RGB colours of a matplotlib colormap, lowest first; None is the style's own.

    Raises ParameterError for a name that matplotlib does not have.

    >>> colour_table("gray", "sequential")[[0, 256]].tolist()
    [[0, 0, 0], [255, 255, 255]]
    """
    return _table(DEFAULT_COLORMAPS[known_style(style)] if colormap is None else colormap)


def colourise(positions: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 colours of an (H, W) map of positions in 0..1; NaN takes the lowest.

    >>> colourise(np.array([[0.0, 1.0]]), colour_table("gray", "grey")).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    steps = np.rint(np.nan_to_num(positions) * (len(table) - 1))
    colours: NDArray[np.uint8] = table[steps.astype(np.uint16)]
    return colours


def known_style(style: Style) -> Style:
    """Return the style as it came; raise ParameterError where there is no such style."""
    if style not in DEFAULT_COLORMAPS:
        hint = suggest(str(style), DEFAULT_COLORMAPS)
        raise ParameterError(f"no style {style!r}: use {', '.join(DEFAULT_COLORMAPS)}.{hint}")
    return style


@lru_cache(maxsize=64)
def _table(name: str) -> NDArray[np.uint8]:
    import matplotlib

    if name not in matplotlib.colormaps:
        hint = suggest(str(name), matplotlib.colormaps)
        raise ParameterError(f"no colormap {name!r}: use a matplotlib name such as inferno, viridis or turbo.{hint}")
    colours = matplotlib.colormaps[name].resampled(STEPS)(np.arange(STEPS))
    table: NDArray[np.uint8] = np.rint(np.asarray(colours)[:, :3] * 255).astype(np.uint8)
    table.flags.writeable = False
    return table
