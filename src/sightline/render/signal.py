"""A series as a line in the colours of its attribution, with the attribution itself below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.errors import InputError
from sightline.render.checks import Checks, checks_block
from sightline.render.layout import Block, framed, padded, stack
from sightline.render.overlay import heatmap_image
from sightline.render.palette import INK, MUTED, Style, colour_table, colourise
from sightline.render.photo import resized_map
from sightline.render.plot import CASING, LIGHT, Frame, bars, ground_of, line, number_ticks, whole_ticks, with_axes
from sightline.render.scale import checked_map, map_notes, normalise
from sightline.render.sheet import Room, predictions_block, sheet
from sightline.render.table import Prediction
from sightline.render.text import compact, font, text_block
from sightline.render.views import Look, key_of, look_of

__all__ = ["channel_rows", "signal_card", "signal_cell", "signal_plot"]

Parts = Literal["both", "line", "bars"]

MOST_CHANNELS = 6
MARGIN = 70
CELL = (420, 260)
CAPTIONS: dict[Parts, str] = {
    "both": "the signal in the colours of its attribution; below it, the attribution",
    "line": "the signal in the colours of its attribution",
    "bars": "the attribution",
}


def signal_card(
    signal: NDArray[Any] | None,
    maps: NDArray[Any],
    *,
    style: Style,
    title: str,
    subtitle: str = "",
    notes: Sequence[str] = (),
    predictions: Iterable[Prediction] = (),
    explained: str | None = None,
    colormap: str | None = None,
    percentile: float = 100.0,
    ends: tuple[str, str] | None = None,
    checks: Checks | None = None,
) -> Image.Image:
    """Return a signal (C, L) as lines coloured by its attribution, with that below, predictions and notes.

    ``maps`` is signed: (C, L), or (1, L) for one that all channels share. All channels have one scale. At most six
    are drawn, those with the most attribution, and a note says so. Without a signal only the attribution is drawn.
    The rest is as in `card`. Raises InputError or ParameterError for what cannot be used.

    >>> wave = np.sin(np.arange(50.0))[None]
    >>> signal_card(wave, np.abs(wave), style="sequential", title="gradient").width
    1300
    """
    values = _checked(signal, maps)
    room = Room.around(600)
    look = look_of("heatmap", values, style, colormap, percentile, None, 1.0)
    plot = _plot(signal, values, look, room.both, "both")
    below = [predictions_block(list(predictions), explained, room), key_of("heatmap", values, look, room, None, ends)]
    said = [*notes, *_channel_notes(signal, values), *map_notes(values)]
    return sheet(title, subtitle, [[plot], below, *checks_block(checks, room)], said, room)


def signal_plot(
    signal: NDArray[Any] | None,
    maps: NDArray[Any],
    *,
    style: Style,
    parts: Parts = "both",
    colormap: str | None = None,
    percentile: float = 100.0,
) -> Image.Image:
    """Return only the plot of `signal_card`: the coloured lines ("line"), the attribution ("bars") or both."""
    values = _checked(signal, maps)
    look = look_of("heatmap", values, style, colormap, percentile, None, 1.0)
    shown: Parts = "bars" if signal is None else parts
    return padded(_plot(signal, values, look, Room.around(600).both, shown), 20)


def signal_cell(
    signal: NDArray[Any] | None,
    maps: NDArray[Any] | None,
    *,
    style: Style = "sequential",
    colormap: str | None = None,
    percentile: float = 100.0,
) -> Image.Image:
    """Return a small plot without axes, for a cell of a grid; without ``maps`` the signal alone, in ink.

    Of more than six channels the three with the most attribution are drawn, with their numbers.
    """
    if maps is None or signal is None:
        given = np.zeros((1, 2)) if signal is None else signal
        return _cell(given, [None] * len(given), list(range(len(given))))
    values = _checked(signal, maps)
    look = look_of("heatmap", values, style, colormap, percentile, None, 1.0)
    by = [_one(values, c, look) for c in range(len(signal))]
    return _cell(signal, by, _chosen(signal, values, _most_in_cell(signal)), look)


def _most_in_cell(signal: NDArray[Any]) -> int:
    return MOST_CHANNELS if len(signal) <= MOST_CHANNELS else 3


def _cell(
    signal: NDArray[Any], by: Sequence[_Coloured | None], order: list[int], look: Look | None = None
) -> Image.Image:
    chosen, blocks = order[: _most_in_cell(signal)], list[Block]()
    part = CELL[1] // len(chosen)
    for c in chosen:
        one = by[c]
        high = part * 2 // 3 if one is not None else part
        field = _line(signal[c], one, Frame.around(signal[c], CELL[0], high))
        if len(signal) > len(chosen):
            ImageDraw.Draw(field).text((6, 4), str(c), MUTED if one is None else CASING, font(16, True), "lt")
        blocks += [field, None if one is None or look is None else _bars(one, look, CELL[0], part - high)]
    return framed(stack(blocks))


def channel_rows(
    maps: NDArray[Any],
    *,
    title: str,
    style: Style | None = None,
    colormap: str | None = None,
    units: str | None = None,
) -> Image.Image:
    """Return all channels (C, L) of a layer or an attribution: a row of colours for each, on one scale.

    ``units`` says what the numbers are; without, they are drawn as shares of the largest.
    """
    values = checked_map(maps)
    way: Style = style or ("diverging" if (values < 0).any() else "sequential")
    room = Room.around(600)
    look = look_of("heatmap", values, way, colormap, 100.0, None, 1.0)
    width, count = room.both - MARGIN - 2, len(values)
    high = min(max(560 // count, 2), 40)
    wide = resized_map(values, (width, count)) if values.shape[1] > width else values
    rows = heatmap_image(wide, style=way, colormap=colormap, limits=look.limits)
    field = rows.resize((width, count * high), Image.Resampling.NEAREST)
    frame = Frame(width, field.height, values.shape[1], 0.0, 1.0)
    left = [(x, text) for x, text in whole_ticks(Frame(field.height, 1, count, 0.0, 1.0), 10)]
    plot = with_axes(field, left, whole_ticks(frame), MARGIN, "position", room.px(12))
    words = text_block(_size_text(values), width=room.both, size=room.px(13), colour=MUTED)
    legend = key_of("heatmap", values, look, room, units, ("low", "high") if units else None)
    return sheet(title, "", [[stack([words, plot], 6)], [legend]], [], room)


def _size_text(values: NDArray[Any]) -> str:
    return f"{len(values)} channels of {values.shape[1]}, counted from 0, on one scale"


def _checked(signal: NDArray[Any] | None, maps: NDArray[Any]) -> NDArray[np.floating[Any]]:
    values = checked_map(maps)
    if signal is not None and (signal.ndim != 2 or values.shape not in (signal.shape, (1, signal.shape[1]))):
        raise InputError(
            f"a signal of shape {signal.shape} came with an attribution of {values.shape}; wanted (C, L) with (C, L) "
            "or (1, L)."
        )
    return values


def _channel_notes(signal: NDArray[Any] | None, maps: NDArray[Any]) -> list[str]:
    count, chosen = len(maps) if signal is None else len(signal), _chosen(signal, maps, MOST_CHANNELS)
    if len(chosen) == count:
        return []
    if len(maps) == 1:
        return [f"the first {len(chosen)} of {count} channels are drawn; the attribution is that of all"]
    total, mass = np.abs(maps).sum(), np.abs(maps[chosen]).sum()
    share = f", which hold {mass / total:.0%} of it" if total else ""
    return [f"{len(chosen)} of {count} channels are drawn: those with the most attribution{share}"]


def _chosen(signal: NDArray[Any] | None, maps: NDArray[Any], most: int) -> list[int]:
    count = len(maps) if signal is None else len(signal)
    if len(maps) == 1 or count <= most:
        return list(range(min(count, most)))
    mass = np.abs(maps).sum(1)
    return sorted(np.argsort(-mass, kind="stable")[:most].tolist())


def _plot(signal: NDArray[Any] | None, maps: NDArray[Any], look: Look, width: int, parts: Parts) -> Image.Image:
    parts = "bars" if signal is None else parts
    chosen = _chosen(signal, maps, MOST_CHANNELS)
    shared = len(maps) == 1
    field = width - MARGIN - 2
    high = 300 if len(chosen) == 1 else min(max(500 // len(chosen), 96), 220)
    blocks: list[Block] = [text_block(_caption(parts, signal, shared), width=width, size=13, colour=MUTED)]
    for c in [0] if shared and parts == "bars" else chosen:
        last = c == chosen[-1] or (shared and parts == "bars")
        drawn: list[Block] = [_channel_name(c, chosen, shared and parts == "bars", width)]
        if parts != "bars" and signal is not None:
            drawn.append(_line_row(signal[c], _one(maps, c, look), field, high, last and parts == "line"))
        if parts != "line" and (last or not shared):
            drawn.append(_bar_row(_one(maps, c, look), look, field, max(round(high * 0.36), 54), last))
        blocks.append(stack(drawn, gap=5))
    return stack(blocks, gap=10)


def _caption(parts: Parts, signal: NDArray[Any] | None, shared: bool) -> str:
    if signal is None or len(signal) == 1:
        return CAPTIONS[parts]
    return f"{CAPTIONS[parts]}; {'all channels share one' if shared else 'each channel has its own, on one scale'}"


def _channel_name(channel: int, chosen: list[int], of_all: bool, width: int) -> Block:
    if of_all or chosen == [0]:
        return None
    return text_block(f"channel {channel}", width=width, size=12, bold=True, colour=MUTED)


class _Coloured:
    """The attribution of one channel with the colours that stand for it."""

    def __init__(self, values: NDArray[np.floating[Any]], look: Look) -> None:
        self.values = np.abs(values) if look.style == "grey" else values
        table = colour_table(look.colormap, look.style)
        positions = normalise(np.append(values, 0.0)[None], look.style, look.limits)
        self.colours = colourise(positions, table)[0, :-1]
        self.ground = ground_of(table, float(positions[0, -1]))


def _one(maps: NDArray[np.floating[Any]], channel: int, look: Look) -> _Coloured:
    return _Coloured(maps[0 if len(maps) == 1 else channel], look)


def _line_row(values: NDArray[Any], by: _Coloured, width: int, height: int, last: bool) -> Image.Image:
    frame = Frame.around(values, width, height)
    below = whole_ticks(frame) if last else []
    return with_axes(_line(values, by, frame), number_ticks(frame), below, MARGIN, "sample")


def _line(values: NDArray[Any], by: _Coloured | None, frame: Frame) -> Image.Image:
    if by is None:
        ink = np.broadcast_to(np.array(INK, np.uint8), (len(values), 3))
        return line(values, ink, np.zeros(len(values)), frame, LIGHT)
    return line(values, by.colours, np.abs(by.values), frame, by.ground)


def _bar_row(by: _Coloured, look: Look, width: int, height: int, last: bool) -> Image.Image:
    frame = _bar_frame(len(by.values), look, width, height)
    low, high = look.limits
    unit = max(abs(low), abs(high))
    marks = [(frame.y(v), f"{compact(100 * v / unit)} %") for v in {low, 0.0, high}] if unit else []
    below = whole_ticks(frame) if last else []
    return with_axes(_bars(by, look, width, height), marks, below, MARGIN, "sample")


def _bars(by: _Coloured, look: Look, width: int, height: int) -> Image.Image:
    return bars(by.values, by.colours, _bar_frame(len(by.values), look, width, height), by.ground)


def _bar_frame(count: int, look: Look, width: int, height: int) -> Frame:
    low, high = look.limits
    return Frame(width, height, count, low, high) if high > low else Frame(width, height, count, 0.0, 1.0)
