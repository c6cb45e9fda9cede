"""The picture that a user gets: the photo, the explanation beside it, and what is needed to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import ParameterError, suggest
from sightline.render import scale
from sightline.render.contour import contours
from sightline.render.layout import Block, beside, framed, hairline, padded, stack
from sightline.render.legend import legend
from sightline.render.overlay import View, alpha_scaled, heatmap_image, masked, overlay
from sightline.render.palette import INK, MUTED, PAPER, Style
from sightline.render.photo import check_same_size, resized_map, resized_photo, rgb
from sightline.render.scale import Limits, checked_map, map_notes
from sightline.render.table import Prediction, prediction_table
from sightline.render.text import text_block

__all__ = ["card"]

# A photo between these keeps its size: a smaller one leaves no room for text, a larger one fits no screen.
SMALLEST, LARGEST = (600, 620), (880, 860)
NARROWEST = 400
GUTTER = 28

EVIDENCE_FOR: tuple[View, ...] = ("masked", "alpha_scaled")


class _Look(NamedTuple):
    """How a map is coloured: what every view needs besides photo and values."""

    style: Style
    colormap: str | None
    limits: Limits
    share_of: str
    opacity: float


def card(
    photo: NDArray[Any],
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
    limits: Limits | None = None,
    units: str | None = None,
    ends: tuple[str, str] | None = None,
) -> Image.Image:
    """Return the photo beside its explanation, with colour bar, predictions and notes, as one RGB image.

    ``photo`` is uint8 (H, W[, 3 or 4]), ``heatmap`` signed (H, W) with NaN where nothing was seen. ``view``
    is how the map is shown; unless given, a grey map is shown alone and others over the photo. Both are
    resized for reading: the card is about 890 to 1900 pixels wide whatever the photo. What `map_notes` says
    of the map is added to ``notes``. ``explained`` is the label that stands out among ``predictions``.
    ``units`` and ``ends`` are those of `legend`, the rest is as in `overlay`. Raises ImageError, InputError
    or ParameterError for what cannot be used.

    >>> photo, heatmap = np.zeros((96, 96, 3), np.uint8), np.eye(96)
    >>> card(photo, heatmap, style="sequential", title="grad_cam").size
    (1300, 853)
    """
    full, values = rgb(photo), checked_map(heatmap)
    check_same_size(full, values)
    way = _known_view(view or ("heatmap" if style == "grey" else "overlay"))
    look = _look(way, values, style, colormap, percentile, limits, heatmap_opacity)
    small = resized_photo(full, _shown_size(full.size))
    picture = _VIEWS[way](np.asarray(small), *_shown_map(values, small.size, look))
    room = _Room.around(small.width)
    panels = [_panel("the photo", small, room), _panel(_CAPTIONS[way](look), picture, room)]
    below = [_predictions(list(predictions), explained, room), _key(way, values, look, room, units, ends)]
    return _sheet(title, subtitle, [panels, below], [*notes, *map_notes(values)], room)


class _Room(NamedTuple):
    """The width of one of the two columns, and how large text is on it."""

    column: int
    zoom: float

    @classmethod
    def around(cls, width: int) -> _Room:
        column = max(width + 2, NARROWEST)
        return cls(column, min(max(column / 600, 0.92), 1.4))

    def px(self, length: float) -> int:
        return round(length * self.zoom)

    @property
    def both(self) -> int:
        return 2 * self.column + self.px(GUTTER)


def _known_view(view: View) -> View:
    if view not in _VIEWS:
        raise ParameterError(f"no view {view!r}: use {', '.join(_VIEWS)}.{suggest(str(view), _VIEWS)}")
    return view


def _look(
    way: View,
    values: NDArray[np.floating[Any]],
    style: Style,
    colormap: str | None,
    percentile: float,
    limits: Limits | None,
    opacity: float,
) -> _Look:
    if way in EVIDENCE_FOR:
        # These show what speaks for the class only, so only that may set how much is much.
        style, values = "sequential", np.maximum(values, 0)
    found = scale.checked_limits(limits or scale.limits(values, style, percentile), style)
    value = "the largest value" if percentile == 100 else f"the {percentile:g}th percentile"
    return _Look(style, colormap, found, "the limit" if limits else value, opacity)


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    shrink = min(LARGEST[0] / size[0], LARGEST[1] / size[1])
    factor = shrink if shrink < 1 else max(min(SMALLEST[0] / size[0], SMALLEST[1] / size[1]), 1.0)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def _shown_map(
    values: NDArray[np.floating[Any]], size: tuple[int, int], look: _Look
) -> tuple[NDArray[np.float32], _Look]:
    # Clipped and brought near 1 first: outliers must not bleed into the mean, nor float64 leave float32.
    low, high = look.limits
    unit = max(abs(low), abs(high)) or 1.0
    kept = np.abs(values) if look.style == "grey" else values
    small = resized_map(kept.clip(low, high) / unit, size)
    return small, look._replace(limits=(low / unit, high / unit))


_VIEWS: dict[View, Callable[[NDArray[np.uint8], NDArray[np.float32], _Look], Image.Image]] = {
    "overlay": lambda photo, values, look: overlay(
        photo,
        values,
        style=look.style,
        colormap=look.colormap,
        limits=look.limits,
        heatmap_opacity=look.opacity,
    ),
    "heatmap": lambda _, values, look: heatmap_image(
        values, style=look.style, colormap=look.colormap, limits=look.limits
    ),
    "masked": lambda photo, values, look: masked(photo, values, limits=look.limits),
    "alpha_scaled": lambda photo, values, look: alpha_scaled(photo, values, limits=look.limits),
    "contours": lambda photo, values, look: contours(
        photo, values, style=look.style, colormap=look.colormap, limits=look.limits
    ),
}

_CAPTIONS: dict[View, Callable[[_Look], str]] = {
    "overlay": lambda look: f"heatmap over the photo, {look.opacity:.0%} opaque",
    "heatmap": lambda _: "heatmap",
    "masked": lambda look: f"in colour: at least half of {look.share_of}",
    "alpha_scaled": lambda _: "the photo, fading where the heatmap is low",
    "contours": lambda look: f"lines at 25, 50 and 75 % of {look.share_of}",
}


def _panel(caption: str, picture: Image.Image, room: _Room) -> Image.Image:
    words = text_block(caption, width=room.column, size=room.px(13), colour=MUTED, most_lines=1)
    return stack([words, framed(picture)], gap=room.px(6))


def _key(
    way: View,
    values: NDArray[np.floating[Any]],
    look: _Look,
    room: _Room,
    units: str | None,
    ends: tuple[str, str] | None,
) -> Image.Image:
    low, high = look.limits
    sizes = np.abs(values) if look.style == "grey" else values
    unseen = np.isnan(values)
    barless = way in EVIDENCE_FOR or unseen.all()
    return legend(
        None if barless else look.limits,
        style=look.style,
        width=room.column,
        colormap=look.colormap,
        units=units,
        share_of=look.share_of,
        ends=ends,
        beyond=(bool((sizes < low).any()), bool((sizes > high).any())),
        not_seen=bool(unseen.any()),
        over_photo=way != "heatmap",
        zoom=room.zoom,
    )


def _predictions(rows: list[Prediction], explained: str | None, room: _Room) -> Image.Image:
    if not rows:
        return hairline(room.column, PAPER)
    words = text_block("what the model says", width=room.column, size=room.px(13), colour=MUTED)
    table = prediction_table(rows, explained=explained, width=room.column, zoom=room.zoom)
    return stack([words, table], gap=room.px(4))


def _sheet(title: str, subtitle: str, rows: list[list[Image.Image]], notes: Sequence[str], room: _Room) -> Image.Image:
    gap, width = room.px(GUTTER), room.both
    heading = [
        text_block(title, width=width, size=room.px(23), bold=True, most_lines=2),
        text_block(subtitle, width=width, size=room.px(14), colour=MUTED, most_lines=2),
    ]
    foot: list[Block] = [text_block(note, width=width, size=room.px(13), colour=INK, most_lines=3) for note in notes]
    body: list[Block] = [stack(heading, room.px(5)), *(beside(row, gap) for row in rows)]
    ending: list[Block] = [hairline(width), stack(foot, room.px(5))] if any(foot) else []
    return padded(stack([*body, *ending], room.px(20)), room.px(34))
