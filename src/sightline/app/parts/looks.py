"""How maps are drawn: over the photo, alone, cut out; how strong; in which colours; from which value on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from sightline.explanation import Explanation

__all__ = ["Looks", "chosen_looks", "drawn"]

VIEWS = {
    "overlay": "Overlay",
    "heatmap": "Map alone",
    "masked": "Cut out",
    "alpha": "Fading",
    "contours": "Contours",
}
_OWN = "automatic"
# Safe for colour-blind eyes but the last three, which many papers use.
COLORMAPS = (_OWN, "inferno", "viridis", "cividis", "magma", "gray", "RdBu_r", "PuOr_r", "turbo", "jet", "coolwarm")


@dataclass(frozen=True)
class Looks:
    """The view, the map's opacity, its colours (None: the method's own) and the share of the maximum it starts at."""

    view: str = "overlay"
    opacity: float = 0.5
    colormap: str | None = None
    threshold: float = 0.0


def chosen_looks() -> Looks:
    """Draw the choice of looks and return it."""
    first, second, third, fourth = st.columns(4, vertical_alignment="bottom")
    view = first.selectbox("View", list(VIEWS), format_func=VIEWS.__getitem__, key="view", bind="query-params")
    colormap = second.selectbox("Colours", COLORMAPS, key="colours", bind="query-params")
    opacity = third.slider("Opacity of the map", 0.0, 1.0, 0.5, 0.05, key="opacity", bind="query-params")
    threshold = fourth.slider(
        "Show from",
        0.0,
        0.95,
        0.0,
        0.05,
        key="threshold",
        bind="query-params",
        help="Values below this share of the largest leave the photo as it is.",
    )
    return Looks(view, opacity, None if colormap == _OWN else colormap, threshold)


def drawn(e: Explanation, looks: Looks) -> Any:
    """Draw an explanation as the looks say."""
    return e.render(
        looks.view,  # type: ignore[arg-type]
        heatmap_opacity=looks.opacity,
        colormap=looks.colormap,
        threshold=looks.threshold,
    )
