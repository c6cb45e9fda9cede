"""A volume as the slices that hold the most of its attribution, side by side on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import InputError
from sightline.render.checks import Checks, checks_block
from sightline.render.layout import Block, beside, framed, padded, stack
from sightline.render.overlay import View
from sightline.render.palette import MUTED, Style
from sightline.render.photo import channels_note, resized_photo, rgb, shown_channels
from sightline.render.scale import map_notes
from sightline.render.sheet import Room, predictions_block, sheet
from sightline.render.table import Prediction
from sightline.render.text import text_block
from sightline.render.views import VIEWS, Look, key_of, known_view, look_of, shown_map

__all__ = ["strongest_slices", "volume_card", "volume_cell", "volume_strip"]

MOST_SLICES = 8
GAP = 14
HIGHEST = 460
CELL = 280


def volume_card(
    volume: NDArray[Any] | None,
    heatmap: NDArray[Any],
    *,
    style: Style,
    title: str,
    subtitle: str = "",
    notes: Sequence[str] = (),
    predictions: Iterable[Prediction] = (),
    explained: str | None = None,
    view: View | None = None,
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    percentile: float = 100.0,
    ends: tuple[str, str] | None = None,
    checks: Checks | None = None,
) -> Image.Image:
    """Return up to eight slices of a volume (C, D, H, W) with its signed map (D, H, W), predictions and notes.

    Slices are cut across the first axis, counted from 0, and share one scale. Channels are shown as by
    `shown_channels`; without a volume the map lies on white. The rest is as in `card`. Raises InputError or
    ParameterError for what cannot be used.

    >>> volume_card(np.ones((1, 6, 8, 8)), np.ones((6, 8, 8)), style="sequential", title="grad_cam").width
    1300
    """
    values = _checked(volume, heatmap)
    room = Room.around(600)
    way = known_view(view or ("heatmap" if style == "grey" else "overlay"))
    look = look_of(way, values, style, colormap, percentile, None, heatmap_opacity)
    below = [predictions_block(list(predictions), explained, room), key_of(way, values, look, room, None, ends)]
    said = [*notes, *_volume_notes(volume), *map_notes(values.reshape(len(values), -1))]
    rows = [[_strip(volume, values, way, look, room)], below, *checks_block(checks, room)]
    return sheet(title, subtitle, rows, said, room)


def volume_strip(
    volume: NDArray[Any] | None,
    heatmap: NDArray[Any],
    *,
    style: Style,
    view: View = "overlay",
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    percentile: float = 100.0,
) -> Image.Image:
    """Return only the slices of `volume_card`."""
    values = _checked(volume, heatmap)
    look = look_of(known_view(view), values, style, colormap, percentile, None, heatmap_opacity)
    return padded(_strip(volume, values, view, look, Room.around(600)), 20)


def volume_cell(
    volume: NDArray[Any] | None,
    heatmap: NDArray[Any],
    *,
    style: Style,
    view: View | None = "overlay",
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    percentile: float = 100.0,
) -> Image.Image:
    """Return the slice with the most attribution and its number, for a cell of a grid; without a view as it came."""
    values = _checked(volume, heatmap)
    place = strongest_slices(values, 1)[0]
    photo, size = _planes(volume, values)[place], _tile_size(values.shape[1:], 1, Room(CELL // 2, 1.0))
    name = _words(place, None)
    if view is None:
        words = text_block(name, width=size[0], size=12, colour=MUTED, most_lines=1)
        return stack([framed(resized_photo(rgb(photo), size)), words], gap=3)
    look = look_of(known_view(view), values, style, colormap, percentile, None, heatmap_opacity)
    return _tile(photo, values[place], view, look, size, name)


def strongest_slices(heatmap: NDArray[Any], most: int = MOST_SLICES) -> list[int]:
    """Return the slices (of the first axis) that hold the most of a map's size, at least 1 % each, in order.

    Of a map that is zero they are evenly apart.

    >>> strongest_slices(np.array([0.0, 3.0, -4.0, 1.0]).reshape(4, 1, 1), 2)
    [1, 2]
    """
    mass = np.abs(heatmap).sum((1, 2))
    if not mass.any():
        return sorted({round(n) for n in np.linspace(0, len(mass) - 1, min(most, len(mass)))})
    least = min(0.01 * mass.sum(), mass.max())
    return sorted(int(n) for n in np.argsort(-mass, kind="stable")[:most] if mass[n] >= least)


def _checked(volume: NDArray[Any] | None, heatmap: NDArray[Any]) -> NDArray[np.floating[Any]]:
    values = np.asarray(heatmap)
    if values.ndim != 3 or not values.size or (volume is not None and volume.shape[1:] != values.shape):
        came = "none" if volume is None else str(volume.shape)
        raise InputError(f"a map {values.shape} came with a volume {came}; wanted (D, H, W) with (C, D, H, W).")
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _volume_notes(volume: NDArray[Any] | None) -> list[str]:
    note = None if volume is None else channels_note(len(volume))
    return [note] if note else []


def _planes(volume: NDArray[Any] | None, values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.full(values.shape, 255, np.uint8) if volume is None else shown_channels(volume)


def _strip(
    volume: NDArray[Any] | None, values: NDArray[np.floating[Any]], way: View, look: Look, room: Room
) -> Image.Image:
    places = strongest_slices(values)
    columns = len(places) if len(places) <= 5 else -(-len(places) // 2)
    size = _tile_size(values.shape[1:], columns, room)
    shares = _shares(values)
    planes = _planes(volume, values)
    tiles = [_tile(planes[p], values[p], way, look, size, _words(p, shares)) for p in places]
    rows = [beside(tiles[i : i + columns], GAP) for i in range(0, len(tiles), columns)]
    caption = f"{len(places)} of {len(values)} slices, those with the most attribution, in order"
    if len(places) == len(values):
        caption = f"all {len(values)} slices"
    if not values.any():
        caption = f"{len(places)} of {len(values)} slices"
    words = text_block(caption + _counted(shares), width=room.both, size=room.px(13), colour=MUTED)
    return stack([words, *rows], gap=10)


def _counted(shares: NDArray[Any] | None) -> str:
    return ", counted from 0" + ("" if shares is None else "; % is a slice's share of the attribution")


def _shares(values: NDArray[np.floating[Any]]) -> NDArray[Any] | None:
    mass = np.abs(values).sum((1, 2), dtype=np.float64)
    return np.asarray(mass / mass.sum()) if mass.any() else None


def _words(place: int, shares: NDArray[Any] | None) -> str:
    return f"slice {place}" if shares is None else f"slice {place} · {shares[place]:.0%}"


def _tile_size(shape: tuple[int, ...], columns: int, room: Room) -> tuple[int, int]:
    widest = (room.both - (columns - 1) * GAP) // columns - 2
    factor = min(widest / shape[1], HIGHEST / shape[0])
    return max(round(shape[1] * factor), 1), max(round(shape[0] * factor), 1)


def _tile(
    plane: NDArray[np.uint8],
    values: NDArray[np.floating[Any]],
    way: View,
    look: Look,
    size: tuple[int, int],
    words: str,
) -> Image.Image:
    photo = resized_photo(rgb(plane), size)
    picture = framed(VIEWS[way](np.asarray(photo), *shown_map(values, size, look)))
    name: Block = text_block(words, width=picture.width, size=12, colour=MUTED, most_lines=1)
    return stack([picture, name], gap=3)
