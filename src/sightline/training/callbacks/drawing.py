"""The pictures of one look: a map as a cell, a layer's channels as a mosaic, and the grid of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sightline.explanation import Explanation
from sightline.render import Style, grid, heatmap_image
from sightline.render.compare import map_cell, photo_cell, style_legend
from sightline.render.explanation import BY_CHANNEL
from sightline.render.layout import beside, scaled_into, stack
from sightline.render.scale import limits
from sightline.render.table import probability_text
from sightline.render.text import text_block
from sightline.training.callbacks.frames import Drawn
from sightline.training.callbacks.looking import Look

__all__ = ["Cells", "Pictures", "cells_of", "drawn_of", "legends_of", "notes_of", "noun_of", "photo_of", "pictures_of"]

Cells = Mapping[str, Mapping[str, Image.Image | str]]

OWN_SCALE = "each map is coloured by its own scale"
_LARGEST = 512  # pixels a side: more are not seen in a grid, and take their time at every epoch
_CHANNELS = 25


def photo_of(e: Explanation) -> Image.Image:
    """Return what was explained, at most 512 pixels a side."""
    return photo_cell(_small(e))


def cell_of(e: Explanation) -> Image.Image:
    """Return the map over what was explained, or the first 25 channels of a layer side by side."""
    if e.method not in BY_CHANNEL:
        return _or_zero(map_cell(_small(e)), e)
    return {1: _rows, 2: _mosaic, 3: _middle}[len(e.input_size)](e.attribution)


def _or_zero(picture: Image.Image, e: Explanation) -> Image.Image:
    """Write on the picture of a map that is zero everywhere that it is, lest it be taken for a dark one."""
    if e.attribution.any():
        return picture
    wide = scaled_into(picture, _LARGEST, _LARGEST)
    words = text_block("zero everywhere", width=wide.width, size=max(wide.width // 12, 10), align="center")
    if words is not None:
        wide.paste(words, (0, (wide.height - words.height) // 2))
    return wide


def drawn_of(e: Explanation) -> Drawn:
    """Say how a cell's colours are to be read."""
    if e.method in BY_CHANNEL:
        return Drawn("diverging" if (e.attribution < 0).any() else "sequential", len(e.input_size))
    return Drawn(e.style, len(e.input_size), bool(np.isnan(_small(e).heatmap).any()))


def _small(e: Explanation) -> Explanation:
    """Return the explanation on a smaller copy of its photo, so that a large one is not coloured pixel by pixel."""
    if e.image is None or e.geometry is None or max(e.image.shape[:2]) <= _LARGEST:
        return e
    high, wide = e.image.shape[:2]
    factor = _LARGEST / max(high, wide)
    size = max(round(high * factor), 1), max(round(wide * factor), 1)
    if e.image.ndim == 3 and e.image.shape[2] not in (3, 4):
        return e
    photo = Image.fromarray(e.image).resize(size[::-1], Image.Resampling.BOX)
    return replace(e, image=np.asarray(photo), geometry=replace(e.geometry, original=size))


def _mosaic(maps: np.ndarray) -> Image.Image:
    """Draw the first channels (C, h, w) of a picture's layer in a square."""
    shown = _coloured(maps, maps[:_CHANNELS])
    across = math.ceil(math.sqrt(len(shown)))
    tiles = [_tile(picture, max(_LARGEST // across, 1)) for picture in shown]
    return stack([beside(tiles[i : i + across], 3) for i in range(0, len(tiles), across)], 3)


def _rows(maps: np.ndarray) -> Image.Image:
    """Draw the first channels (C, L) of a series' layer, a row of colours for each."""
    (picture,) = _coloured(maps, maps[None, :_CHANNELS])
    return picture.resize((_LARGEST, _LARGEST * 5 // 8), Image.Resampling.NEAREST)


def _middle(maps: np.ndarray) -> Image.Image:
    """Draw the middle slices of the first channels (C, D, h, w) of a volume's layer."""
    return _mosaic(maps[:, maps.shape[1] // 2])


def _coloured(maps: np.ndarray, shown: np.ndarray) -> list[Image.Image]:
    """Return pictures on the one scale of all channels."""
    style: Style = "diverging" if (maps < 0).any() else "sequential"
    ends = limits(maps.reshape(len(maps), -1), style)
    return [heatmap_image(one, style=style, limits=ends) for one in shown]


def _tile(picture: Image.Image, side: int) -> Image.Image:
    factor = side / max(picture.size)
    return picture.resize([max(round(s * factor), 1) for s in picture.size], Image.Resampling.BOX)


def legends_of(drawn: Iterable[Drawn]) -> list[Image.Image]:
    """Return a legend for each style among some frames."""
    found = [d for d in drawn if d.style is not None]
    return [
        style_legend(
            style,
            not_seen=any(d.unseen for d in found if d.style == style),
            series=any(d.dims == 1 for d in found if d.style == style),
        )
        for style in dict.fromkeys(d.style for d in found)
    ]


def noun_of(drawn: Iterable[Drawn]) -> str:
    """Return what the first column shows: an image, a series or a volume."""
    return {1: "series", 3: "volume"}.get(next((d.dims for d in drawn if d.style is not None), 2), "image")


def notes_of(methods: Iterable[str]) -> list[str]:
    """Return what the reader of a grid or strip should know."""
    channels = [m for m in methods if m in BY_CHANNEL]
    told = f"{' and '.join(channels)}: the first {_CHANNELS} channels of the layer, on one scale"
    return [OWN_SCALE, *([told] if channels else [])]


def said_of(look: Look) -> str:
    """Return in words what the model says: "says ring 0.61, star 0.20"."""
    if look.says is None:
        return "the pass fails"
    label, chance = look.says
    said = f"says {label} {probability_text(chance)}"
    if look.explained is None or look.explained[0] == label:
        return said
    wanted, its = look.explained
    return f"{said}, {wanted}{'' if its is None else ' ' + probability_text(its)}"


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of one epoch: the grid of all methods, one of each, and sheets of channels by their tags."""

    grid: Image.Image
    each: Mapping[str, Image.Image]
    sheets: Mapping[str, Image.Image]

    def tagged(self, methods: Sequence[str]) -> dict[str, Image.Image]:
        """Return all pictures by their tags: explanations/grad_cam, explanations/activations/cat, explanations/all."""
        listed = {**self.each, **self.sheets, **({"all": self.grid} if len(methods) > 1 else {})}
        return {f"explanations/{tag}": picture for tag, picture in listed.items()}


def cells_of(looks: Mapping[str, Look]) -> Cells:
    """Draw every map once: {image: {method: picture, or why there is none}}."""
    return {name: {**{m: cell_of(e) for m, e in found.maps.items()}, **found.reasons} for name, found in looks.items()}


def pictures_of(
    looks: Mapping[str, Look],
    cells: Cells,
    photos: Mapping[str, Image.Image | None],
    methods: Sequence[str],
    title: str,
) -> Pictures:
    """Lay the cells of one epoch out: all methods, each by itself, and all channels where a method shows a layer."""

    def drawn(shown: Sequence[str]) -> Image.Image:
        maps = [found.maps[m] for found in looks.values() for m in shown if m in found.maps]
        return grid(
            [[photos[name], *(cells[name].get(m) for m in shown)] for name in looks],
            row_labels=[f"{name}: {said_of(found)}" for name, found in looks.items()],
            column_labels=[noun_of(map(drawn_of, maps)), *shown],
            title=title,
            legends=legends_of(map(drawn_of, maps)),
            notes=notes_of(shown),
        )

    whole = drawn(methods)
    each = {m: drawn([m]) for m in methods} if len(methods) > 1 else {methods[0]: whole}
    sheets = {f"{m}/{name}": sheet for name, found in looks.items() for m, sheet in _sheets(found).items()}
    return Pictures(whole, each, sheets)


def _sheets(found: Look) -> dict[str, Image.Image]:
    return {m: e.render("card") for m, e in found.maps.items() if m in BY_CHANNEL}
