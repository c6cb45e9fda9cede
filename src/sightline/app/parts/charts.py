"""Lines over a share or a count, told apart by dash and mark as well as by colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

__all__ = ["Line", "line_chart"]

# Told apart by colour-blind eyes, on white and on black.
_LOOKS = (
    ("#2b8cbe", "solid", "circle", 3.5),
    ("#e08214", "dash", "square", 2),
    ("#b35fa3", "dot", "diamond", 2),
    ("#1b9e77", "dashdot", "triangle-up", 2),
    ("#8c8c8c", "solid", "x", 1.5),
)


@dataclass(frozen=True)
class Line:
    """A line: its name, its points, what is said of each point, and the point that is marked."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    said: Sequence[str]
    at: int | None = None


def line_chart(lines: Sequence[Line], *, axes: tuple[str, str], alt: str, key: str, band: float | None = None) -> None:
    """Draw up to five lines, the first one thick; values above ``band`` lie on a shaded ground."""
    figure = go.Figure()
    for line, look in zip(lines, _LOOKS, strict=False):
        _add(figure, line, *look)
    if band is not None:
        figure.add_hrect(y0=band, y1=1.05, fillcolor="#8c8c8c", opacity=0.15, line_width=0)
    shares = {"tickformat": ".0%", "range": [-0.01, 1.01], "dtick": 0.25}
    figure.update_layout(
        height=360,
        margin={"l": 8, "r": 24, "t": 8, "b": 8},
        legend={"orientation": "h", "y": -0.25, "x": 0, "yanchor": "top"},
        xaxis={"title": axes[0], "fixedrange": True} | (shares if max(lines[0].x) <= 1 else {"tickformat": "d"}),
        yaxis={"title": axes[1], "fixedrange": True, "range": [_lowest(lines) - 0.04, 1.05]},
        hovermode="closest",
    )
    st.plotly_chart(figure, theme="streamlit", config={"displayModeBar": False}, alt=alt, key=key)


def _lowest(lines: Sequence[Line]) -> float:
    """Return the lowest value there is, at most 0; a map that cannot be compared has none."""
    return min([0.0, *(y for line in lines for y in line.y if math.isfinite(y))])


def _add(figure: go.Figure, line: Line, colour: str, dash: str, mark: str, width: float) -> None:
    shown = {"name": line.name, "legendgroup": line.name, "text": list(line.said), "hoverinfo": "text"}
    stroke = {"color": colour, "dash": dash, "width": width}
    figure.add_scatter(x=list(line.x), y=list(line.y), mode="lines", line=stroke, **shown)
    if line.at is not None:
        figure.add_scatter(
            x=[line.x[line.at]],
            y=[line.y[line.at]],
            mode="markers",
            marker={"color": colour, "symbol": mark, "size": 12, "line": {"width": 2, "color": "white"}},
            showlegend=False,
            legendgroup=line.name,
            hoverinfo="text",
            text=[line.said[line.at]],
        )
