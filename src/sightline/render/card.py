"""The picture that a user gets: the photo, the explanation beside it, and what is needed to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.render.checks import Checks, checks_block
from sightline.render.overlay import View
from sightline.render.palette import Style
from sightline.render.photo import check_same_size, resized_photo, rgb
from sightline.render.scale import Limits, checked_map, map_notes
from sightline.render.sheet import Room, panel, predictions_block, sheet
from sightline.render.table import Prediction
from sightline.render.views import CAPTIONS, VIEWS, key_of, known_view, look_of, shown_map

__all__ = ["card"]

# A photo between these keeps its size: a smaller one leaves no room for text, a larger one fits no screen.
SMALLEST, LARGEST = (600, 620), (880, 860)


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
    checks: Checks | None = None,
) -> Image.Image:
    """Return the photo beside its explanation, with colour bar, predictions and notes, as one RGB image.

    ``photo`` is uint8 (H, W[, 3 or 4]), ``heatmap`` signed (H, W) with NaN where nothing was seen. ``view``
    is how the map is shown; unless given, a grey map is shown alone and others over the photo. Both are
    resized for reading: the card is about 890 to 1900 pixels wide whatever the photo. What `map_notes` says
    of the map is added to ``notes``. ``explained`` is the label that stands out among ``predictions``.
    ``units`` and ``ends`` are those of `legend`, ``checks`` stand below, the rest is as in `overlay`. Raises
    ImageError, InputError or ParameterError for what cannot be used.

    >>> photo, heatmap = np.zeros((96, 96, 3), np.uint8), np.eye(96)
    >>> card(photo, heatmap, style="sequential", title="grad_cam").size
    (1300, 853)
    """
    full, values = rgb(photo), checked_map(heatmap)
    check_same_size(full, values)
    way = known_view(view or ("heatmap" if style == "grey" else "overlay"))
    look = look_of(way, values, style, colormap, percentile, limits, heatmap_opacity)
    small = resized_photo(full, _shown_size(full.size))
    picture = VIEWS[way](np.asarray(small), *shown_map(values, small.size, look))
    room = Room.around(small.width)
    panels = [panel("the photo", small, room), panel(CAPTIONS[way](look), picture, room)]
    below = [predictions_block(list(predictions), explained, room), key_of(way, values, look, room, units, ends)]
    return sheet(title, subtitle, [panels, below, *checks_block(checks, room)], [*notes, *map_notes(values)], room)


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    shrink = min(LARGEST[0] / size[0], LARGEST[1] / size[1])
    factor = shrink if shrink < 1 else max(min(SMALLEST[0] / size[0], SMALLEST[1] / size[1]), 1.0)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
