"""What is said of one map of a series: its legend, how much of it lies on the digit, its notes and downloads."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st

from sightline.app.parts.maps import downloads, said_of
from sightline.app.parts.series_chart import colours_of, ends_of
from sightline.app.parts.viewer import Legend, legend_of
from sightline.app.series import Series, share_on
from sightline.app.subject import Asked, Chosen
from sightline.explanation import Explanation
from sightline.methods import METHODS
from sightline.render.explanation import title_of
from sightline.render.html import png_bytes

__all__ = ["series_card"]

_CONTROLS = ("constant", "random")


def series_card(e: Explanation, chosen: Chosen, series: Series, asked: Asked, colormap: str | None) -> None:
    """Show what there is to say of one map."""
    with st.container(border=True):
        st.markdown(f"**{title_of(e)}**")
        st.caption(METHODS[e.method].summary.replace("``", ""))
        _legend(legend_of(e.style, colours_of(e, colormap), ends_of(e)))
        if series.placed is not None:
            st.markdown(_where(e, chosen, series, asked))
        st.caption(said_of(e))
        for note in e.notes:
            st.caption(f":material/info: {note}")
        downloads(e, lambda: png_bytes(e.render()), "The drawing of the library, to print", e.method)


def _legend(legend: Legend) -> None:
    colours = ", ".join(legend.stops)
    st.html(
        f'<div role="img" aria-label="{escape(legend.alt)}" style="font-size:.85rem">'
        f'<div style="height:.7rem;border-radius:.2rem;background:linear-gradient(90deg,{colours})"></div>'
        '<div style="display:flex;justify-content:space-between;gap:1rem">'
        f"<span>{escape(legend.low)}</span><span>{escape(legend.high)}</span></div></div>"
    )


def _where(e: Explanation, chosen: Chosen, series: Series, asked: Asked) -> str:
    """Say how much of a map lies on the digit, and how much of maps that know nothing does."""
    if series.placed is None:
        return ""
    share, placed = share_on(chosen, series, asked, series.placed), series.placed
    if np.isnan(share):
        return "Nothing in this map speaks for the class, so none of it lies on the digit."
    controls = [
        share_on(chosen, series, Asked(name, target=asked.target, seed=asked.seed), placed) for name in _CONTROLS
    ]
    return (
        f"**{share:.0%}** of what speaks for “{e.target.label}” lies on the {placed.at.sum()} points of the "
        f"{placed.digit} (shaded). A map that is the same everywhere would have {controls[0]:.0%}, a random one "
        f"{controls[1]:.0%}."
    )
