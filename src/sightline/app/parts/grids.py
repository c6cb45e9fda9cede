"""Tables in the page: maps by rows and columns, and numbers by two maps each; they scroll within themselves."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image

from sightline.app.parts.viewer import Legend, asset
from sightline.render.palette import colour_table

__all__ = ["Shown", "grid_html", "legends_html", "matrix_html", "picture_url"]

_SIDE = 420


@dataclass(frozen=True)
class Shown:
    """What stands in a cell: a picture with its words, lines below it; or a text in its place."""

    url: str | None = None
    alt: str = ""
    lines: tuple[str, ...] = ()
    text: str = ""
    kind: str = field(default="map")

    def html(self) -> str:
        """Return the cell."""
        if self.url is None:
            return f'<td class="{self.kind}">{escape(self.text)}</td>'
        below = "".join(f"<span>{escape(line)}</span>" for line in self.lines)
        return f'<td><img src="{self.url}" alt="{escape(self.alt)}"><p>{below}</p></td>'


def picture_url(image: Image.Image) -> str:
    """Return a picture as a small URL that holds it."""
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, format="WEBP", quality=88, method=2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def grid_html(
    corner: Shown, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Shown]]], *, label: str, width: int
) -> str:
    """Return a table of cells ``width`` pixels wide with heads of rows and columns."""
    head = "".join(f"<th scope=col>{_lines(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope=row>{_lines(name)}</th>{''.join(cell.html() for cell in cells)}</tr>" for name, cells in rows
    )
    table = f"<thead><tr>{corner.html()}{head}</tr></thead><tbody>{body}</tbody>"
    return _scrolled(f'<table class="sl-grid" style="--cell:{width}px">{table}</table>', label)


def legends_html(legends: Sequence[tuple[str, Legend]]) -> str:
    """Return legends side by side, each under the name of what it is for."""
    return f"<div class=sl-legends>{''.join(_legend(name, legend) for name, legend in legends)}</div>"


def _legend(name: str, legend: Legend) -> str:
    bar = f'<i style="background:linear-gradient(to right,{",".join(legend.stops)})"></i>'
    ends = f"<span>{escape(legend.low)}</span>{bar}<span>{escape(legend.high)}</span>"
    return f'<div><b>{escape(name)}</b><div role=img aria-label="{escape(legend.alt)}">{ends}</div></div>'


def matrix_html(names: Sequence[str], values: np.ndarray, *, label: str) -> str:
    """Return numbers from -1 to 1 as a coloured table: blue for 1, red for -1, a dash where there is none."""
    head = "".join(f"<th scope=col><span>{_lines(name)}</span></th>" for name in names)
    body = "".join(
        f"<tr><th scope=row>{_lines(name)}</th>{''.join(_number(v) for v in row)}</tr>"
        for name, row in zip(names, values, strict=True)
    )
    return _scrolled(f"<table class=sl-matrix><thead><tr><td></td>{head}</tr></thead>{body}</table>", label)


def _number(value: float) -> str:
    if np.isnan(value):
        return "<td>–</td>"
    red, green, blue = (int(c) for c in colour_table("RdBu", "diverging")[round(128 * (value + 1))])
    ink = "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"
    said = f"{value:.2f}".replace("-", "−")
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{said}</td>'


def _lines(text: str) -> str:
    return "<br>".join(escape(line).replace("/", "/<wbr>") for line in text.split("\n"))


def _scrolled(table: str, label: str) -> str:
    style = f"<style>{asset('tables.css')}</style>"
    return f'{style}<div class=sl-scroll role=region tabindex=0 aria-label="{escape(label)}">{table}</div>'
