"""Pictures in the page that can be zoomed, compared with one another, and marked with a box."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import streamlit as st
from PIL import Image

from sightline.render.legend import ENDS
from sightline.render.palette import Style, colour_table

__all__ = ["Legend", "Seen", "legend_of", "viewer"]

Box = tuple[float, float, float, float]

_WIDEST = 1600
_MOST = 760


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture with its name on the button and its words for those who do not see it."""

    name: str
    image: Image.Image
    alt: str


@dataclass(frozen=True)
class Legend:
    """What the colours mean, from low to high."""

    stops: tuple[str, ...]
    low: str
    high: str

    @property
    def alt(self) -> str:
        """The legend in words."""
        return f"Colours from {self.low} to {self.high}"


def asset(name: str) -> str:
    """Return the text of a file that comes with the app."""
    return resources.files("sightline.app").joinpath("assets", name).read_text(encoding="utf-8")


_VIEWER = st.components.v2.component(
    "sightline_viewer", html='<div class="viewer"></div>', css=asset("viewer.css"), js=asset("viewer.js")
)


def viewer(
    pictures: Sequence[Seen],
    *,
    key: str,
    label: str,
    legend: Legend | None = None,
    box: Box | None = None,
    on_box: Callable[[], None] | None = None,
    most: int = _MOST,
    start: str | None = None,
) -> Box | None:
    """Show pictures of one size; with ``on_box`` a box can be drawn: left, top, right, bottom as shares of the sides.

    ``start`` is what is shown first: a picture's name, "Side by side" or "Flicker"; else the first picture.
    Returns the box that was drawn, None where there is none yet.
    """
    width, height = pictures[0].image.size
    data = {
        "pictures": [{"name": p.name, "src": data_url(p.image), "alt": p.alt} for p in pictures],
        "label": label,
        "ratio": f"{width} / {height}",
        "most": most if height <= width else max(200, most * width // height),
        "legend": None if legend is None else {**vars(legend), "stops": list(legend.stops), "alt": legend.alt},
        "box": None if box is None else list(box),
        "select": on_box is not None,
        "start": start,
    }
    found = _VIEWER(key=key, data=data, on_box_change=on_box or _nothing)
    drawn = getattr(found, "box", None)
    return tuple(drawn) if drawn else None


def _nothing() -> None: ...


def legend_of(style: Style, colormap: str | None, ends: tuple[str, str] | None = None) -> Legend:
    """Return the legend of a map's colours."""
    table = colour_table(colormap, style)
    low, high = ends or ENDS[style]
    stops = tuple("#{:02x}{:02x}{:02x}".format(*map(int, table[i])) for i in range(0, 257, 32))
    return Legend(stops, low, high)


def data_url(image: Image.Image) -> str:
    """Return a picture as a URL that holds it: small ones without loss, large ones at most 1600 pixels wide."""
    small = max(image.size) <= 512
    shown = image.convert("RGB")
    shown.thumbnail((_WIDEST, _WIDEST))
    stream = io.BytesIO()
    shown.save(stream, format="PNG" if small else "WEBP", **({} if small else {"quality": 88, "method": 2}))
    kind = "png" if small else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
