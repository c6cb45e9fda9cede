"""The ten digits of MNIST-1D as they are before they are hidden in noise."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from sightline.app.parts.series_chart import LINE, TEMPLATE
from sightline.demo.mnist1d import mnist1d_templates

__all__ = ["digits_shown"]

_COLUMNS = 5


def digits_shown(explained: int | None) -> None:
    """Show the templates of all digits, that of the explained class in its colour."""
    st.markdown("**The digits without noise**")
    upright = st.toggle(
        "Upright",
        key="upright",
        bind="query-params",
        help="In a series a digit lies on its side: its top is on the left. Upright, one can read it.",
    )
    alt = "The templates of the digits 0 to 9" + ("" if explained is None else f"; {explained} is marked")
    st.plotly_chart(
        _figure(explained, upright), config={"displayModeBar": False, "staticPlot": True}, key="templates", alt=alt
    )


def _figure(explained: int | None, upright: bool) -> Any:
    digits = mnist1d_templates()
    titles = [f"<b>{d}</b>" if d == explained else str(d) for d in digits.y]
    figure = make_subplots(2, _COLUMNS, subplot_titles=titles, horizontal_spacing=0.04, vertical_spacing=0.16)
    for digit, shape in enumerate(digits.x):
        x, y = (shape, -digits.t) if upright else (digits.t, shape)
        line = {"color": TEMPLATE, "width": 4} if digit == explained else {"color": LINE, "width": 2}
        row, column = divmod(digit, _COLUMNS)
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name=str(digit)), row + 1, column + 1)
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(**hidden, range=[-0.75, 0.75] if upright else None)
    figure.update_yaxes(**hidden, range=None if upright else [-0.75, 0.75])
    figure.update_layout(height=250, margin={"l": 4, "r": 4, "t": 24, "b": 4}, showlegend=False)
    return figure
