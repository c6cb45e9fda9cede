"""The best classes as bars, each of which chooses its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from sightline.app.parts.viewer import asset
from sightline.explanation import Prediction

__all__ = ["bars"]

_BARS = st.components.v2.component(
    "sightline_bars", html='<ul class="bars"></ul>', css=asset("bars.css"), js=asset("bars.js")
)


def bars(predictions: Sequence[Prediction], chosen: int | None, *, key: str, on_pick: Callable[[], None]) -> None:
    """Show predictions as bars; a click calls ``on_pick``, and the session's ``key`` then has ``picked``, the index."""
    rows = [
        {
            "index": p["index"],
            "label": p["label"],
            "id": f"{p['index']}" if not p.get("id") else f"{p['index']} · {p['id']}",
            "share": p["probability"],
            "said": _percent(p["probability"]),
        }
        for p in predictions
    ]
    _BARS(key=key, data={"rows": rows, "chosen": chosen}, on_picked_change=on_pick)


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.001 else f"{share:.1%}".replace("%", " %")
