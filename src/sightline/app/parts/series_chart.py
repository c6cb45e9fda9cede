"""A series as a line, with the attributions of several methods below it on the same points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sightline.demo.mnist1d import Placed
from sightline.explanation import Explanation
from sightline.render.palette import colour_table
from sightline.render.scale import limits

__all__ = ["SHADE", "TEMPLATE", "Laid", "Paint", "alt_of", "colours_of", "ends_of", "series_figure"]

LINE = "#7b8794"
TEMPLATE = "#0d9488"
SHADE = "rgba(13,148,136,0.13)"
_GREY = {"grey": "viridis"}  # white bars would not be seen on a white page
_MANY = 300  # points from which on bars and dots are too fine to be seen
_TOP, _ROW = 270, 150


@dataclass(frozen=True)
class Paint:
    """Which explanation colours the line ("line") or its ground ("ground"), in which colours (None: the style's)."""

    what: str = "line"
    by: Explanation | None = None
    colormap: str | None = None


@dataclass(frozen=True)
class Laid:
    """The template that is drawn over the series, and the digit whose points are shaded."""

    template: Placed | None = None
    shaded: Placed | None = None


def colours_of(e: Explanation, colormap: str | None) -> str | None:
    """Return the name of the colours in which the page draws a map."""
    return colormap or _GREY.get(e.style)


def ends_of(e: Explanation) -> tuple[str, str] | None:
    """Return the words for low and high where they name the class, None for those of the style."""
    return (f"against “{e.target.label}”", f"for “{e.target.label}”") if e.style == "diverging" else None


def series_figure(values: np.ndarray, found: Sequence[Explanation], paint: Paint, laid: Laid, unit: str) -> go.Figure:
    """Draw values (C, L), the template that lies in them, and each explanation's map in a row of its own."""
    heights = [_TOP, *[_ROW] * len(found)]
    figure = make_subplots(
        len(heights), 1, shared_xaxes=True, row_heights=heights, vertical_spacing=34 / (sum(heights) + 90)
    )
    if paint.by is not None and paint.what in ("ground", "line" if len(values) > 1 else "ground"):
        figure.add_trace(_ground(_range(values, laid), paint.by, paint.colormap), 1, 1)
    for trace in _lines(values, paint):
        figure.add_trace(trace, 1, 1)
    if laid.template is not None:
        figure.add_trace(_template(laid.template), 1, 1)
    if laid.shaded is not None:
        _shade(figure, laid.shaded, len(heights))
    for row, e in enumerate(found, 2):
        figure.add_trace(_map(e, paint.colormap), row, 1)
        _name(figure, row, e)
    figure.update_yaxes(title_text="attribution")
    figure.update_yaxes(title_text=unit, range=_range(values, laid), row=1, col=1)
    return _laid_out(figure, values.shape[1], heights)


def _lines(values: np.ndarray, paint: Paint) -> list[Any]:
    x, several = np.arange(values.shape[1]), len(values) > 1
    painted = paint.by is not None and paint.what == "line" and not several
    return [
        go.Scatter(
            x=x,
            y=row,
            name=f"channel {c}" if several else "value",
            mode="lines+markers" if painted else "lines",
            line={"width": 2} if several else {"color": LINE, "width": 2},
            marker=_dots(paint, len(x)) if painted else None,
            hovertemplate="%{y:.3g}",
        )
        for c, row in enumerate(values)
    ]


def _dots(paint: Paint, count: int) -> dict[str, Any]:
    if paint.by is None:
        return {}
    return {
        "size": 10 if count <= _MANY else 4,
        "line": {"color": LINE, "width": 1 if count <= _MANY else 0},
    } | _colour(paint.by, paint.colormap)


def _colour(e: Explanation, colormap: str | None) -> dict[str, Any]:
    low, high = limits(_shown(e)[None], e.style)
    return {"color": _shown(e), "colorscale": _scale(e, colormap), "cmin": low, "cmax": high if high > low else low + 1}


def _scale(e: Explanation, colormap: str | None) -> list[list[Any]]:
    table = colour_table(colours_of(e, colormap), e.style)
    return [[i / 256, "rgb({},{},{})".format(*map(int, table[i]))] for i in range(0, 257, 16)]


def _shown(e: Explanation) -> np.ndarray:
    """Return the map as it is drawn: where the sign means nothing, its size."""
    return np.abs(e.heatmap) if e.style == "grey" else e.heatmap


def _ground(ends: tuple[float, float], e: Explanation, colormap: str | None) -> Any:
    (low, high), how = ends, _colour(e, colormap)
    return go.Heatmap(
        z=how["color"][None],
        y0=(low + high) / 2,
        dy=high - low,
        colorscale=how["colorscale"],
        zmin=how["cmin"],
        zmax=how["cmax"],
        opacity=0.55,
        showscale=False,
        hoverinfo="skip",
    )


def _range(values: np.ndarray, laid: Laid) -> tuple[float, float]:
    seen = values if laid.template is None else np.append(values, laid.template.clean)
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    room = 0.08 * (high - low or 1.0)
    return low - room, high + room


def _template(placed: Placed) -> Any:
    return go.Scatter(
        x=np.arange(len(placed.at)),
        y=placed.clean,
        name=f"template of {placed.digit}",
        mode="lines",
        line={"color": TEMPLATE, "width": 4, "dash": "dot"},
        hovertemplate="%{y:.3g}",
    )


def _shade(figure: Any, placed: Placed, rows: int) -> None:
    at = np.flatnonzero(placed.at)
    for row in range(1, rows + 1):
        figure.add_vrect(
            float(at[0]) - 0.5, float(at[-1]) + 0.5, fillcolor=SHADE, line_width=0, layer="below", row=row, col=1
        )


def _map(e: Explanation, colormap: str | None) -> Any:
    shown, how = _shown(e), _colour(e, colormap)
    look = {"x": np.arange(len(shown)), "y": shown, "name": e.method, "hovertemplate": "%{y:.3g}"}
    if len(shown) > _MANY:
        return go.Scatter(**look, fill="tozeroy", mode="lines", line={"color": LINE, "width": 1})
    return go.Bar(**look, marker=how | {"line": {"color": LINE, "width": 0.6}})


def _name(figure: Any, row: int, e: Explanation) -> None:
    figure.add_annotation(
        text=f"<b>{e.method}</b> · {_meaning(e)}",
        xref="paper",
        yref=f"y{row} domain",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )


def _meaning(e: Explanation) -> str:
    if e.style == "diverging":
        return f"above 0: for “{e.target.label}”"
    return "how much it matters" if e.style == "sequential" else "how sensitive the score is"


def _laid_out(figure: Any, count: int, heights: Sequence[int]) -> Any:
    figure.update_layout(
        height=sum(heights) + 90,
        margin={"l": 62, "r": 8, "t": 34, "b": 46},
        bargap=0.12,
        hovermode="x",
        hoversubplots="axis",
        dragmode=False,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    for trace in figure.data:
        trace.showlegend = trace.type == "scatter" and trace.yaxis in (None, "y")
    figure.update_xaxes(range=[-0.7, count - 0.3], showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="point of the series, from 0", row=len(heights), col=1)
    figure.update_yaxes(zeroline=True, zerolinewidth=1.5, zerolinecolor=LINE, nticks=5, automargin=False)
    return figure


def alt_of(values: np.ndarray, found: Sequence[Explanation], placed: Placed | None) -> str:
    """Say what the chart shows, for those who do not see it."""
    parts = [f"A series of {values.shape[1]} points from {values.min():.3g} to {values.max():.3g}."]
    if placed is not None:
        at = np.flatnonzero(placed.at)
        parts.append(f"The template of {placed.digit} lies on points {at[0]} to {at[-1]}.")
    for e in found:
        best = np.argsort(-_shown(e), kind="stable")[:3]
        parts.append(f"{e.method} is highest at points {', '.join(str(i) for i in sorted(best.tolist()))}.")
    return " ".join(parts)
