"""What changed, drawn: probabilities before and after, and how other places of the same size did."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image, ImageDraw

from sightline.app.parts.viewer import asset
from sightline.covering import Region, RegionAnswer, percent
from sightline.models.model import Model

__all__ = ["changed_bars", "elsewhere_chart", "outlined"]

_ROWS = 5
_BLUE, _ORANGE = "#3b8fc2", "#e07b28"


def changed_bars(a: RegionAnswer, model: Model) -> None:
    """Show the best classes of both answers as pairs of bars with their difference."""
    rows = "".join(_row(model.labels.name(i), a.before[i], a.after[i], i == a.index) for i in _classes(a))
    head = "<tr><th scope=col>Class</th><th scope=col>Before and after</th><th scope=col>Change</th></tr>"
    st.html(f"<style>{asset('tables.css')}</style><table class=sl-changes>{head}{rows}</table>")


def _classes(a: RegionAnswer) -> list[int]:
    """Return the class that is asked about and the best of both answers, the best before first."""
    best = [a.index, *np.argsort(-a.before, kind="stable")[:3], *np.argsort(-a.after, kind="stable")[:3]]
    listed = list(dict.fromkeys(int(i) for i in best))[:_ROWS]
    return sorted(listed, key=lambda i: -a.before[i])


def _row(label: str, before: float, after: float, asked: bool) -> str:
    bars = _bar("before", before) + _bar("after", after)
    kind = " class=asked" if asked else ""
    return f"<tr{kind}><th scope=row>{escape(label)}</th><td>{bars}</td><td>{points(after - before)}</td></tr>"


def _bar(name: str, share: float) -> str:
    fill = f'<span style="--share:{share:.4f}"></span>'
    return f'<div class="sl-bar {name}">{fill}<b>{escape(percent(share))}</b></div>'


def points(change: float) -> str:
    """Return a difference of probabilities in percentage points.

    >>> [points(c) for c in (0.2, -0.853, 0.0001)]
    ['+20', '−85', '0']
    """
    said = f"{100 * change:+.0f}".replace("-", "−")
    return "0" if said in ("+0", "−0") else said


def elsewhere_chart(a: RegionAnswer, key: str) -> None:
    """Show the probability that this region leaves beside those that other places of its size leave."""
    others = [100 * float(v) for v in a.others]
    chart = go.Figure()
    chart.add_vline(100 * a.was, line_dash="dot", line_color="#888")
    above = {"y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "right" if a.was > 0.5 else "left"}
    chart.add_annotation(x=100 * a.was, text="whole picture", showarrow=False, **above)
    chart.add_scatter(
        x=others, y=["elsewhere"] * len(others), mode="markers", name="other places",
        marker={"symbol": "circle-open", "size": 12, "color": _BLUE, "line": {"width": 2}},
        hovertemplate="%{x:.1f} %<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=[100 * a.now], y=["this region"], mode="markers", name="this region",
        marker={"symbol": "diamond", "size": 16, "color": _ORANGE}, hovertemplate="%{x:.1f} %<extra></extra>",
    )  # fmt: skip
    chart.update_layout(height=190, margin={"l": 0, "r": 10, "t": 26, "b": 0}, showlegend=False)
    chart.update_xaxes(range=[-3, 103], title=f"“{a.label}” that is left (%)", fixedrange=True)
    chart.update_yaxes(fixedrange=True)
    said = f"This region leaves {percent(a.now)}; other places leave {', '.join(percent(v) for v in a.others)}"
    st.plotly_chart(chart, key=key, config={"displayModeBar": False}, alt=said)


def outlined(image: Image.Image, box: Region, places: Sequence[Region]) -> Image.Image:
    """Return the picture with the region in orange and the other places in blue, each edged in white."""
    drawn = image.convert("RGB")
    scale = max(1.0, 420 / max(drawn.size))
    drawn = drawn.resize((round(drawn.width * scale), round(drawn.height * scale)), Image.Resampling.BICUBIC)
    drawn.thumbnail((900, 900))
    scale, line = drawn.width / image.width, max(2, drawn.width // 160)
    pen = ImageDraw.Draw(drawn)
    for place, colour in [*((p, _BLUE) for p in places), (box, _ORANGE)]:
        corners = [round(v * scale) for v in place]
        pen.rectangle(corners, outline="white", width=2 * line)
        pen.rectangle(corners, outline=colour, width=line)
    return drawn
