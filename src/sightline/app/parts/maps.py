"""One explanation in the page: the map beside its photo, its legend, what must be said of it, and downloads."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from sightline.app.parts.looks import Looks, drawn
from sightline.app.parts.viewer import Seen, legend_of, viewer
from sightline.app.parts.work import plain
from sightline.explanation import Explanation
from sightline.methods import METHODS
from sightline.render.explanation import photo_picture, title_of
from sightline.render.html import png_bytes

__all__ = ["downloads", "file_bytes", "map_card", "said_of", "seen"]

_SCORE = (
    "The score is the number that is explained, usually the class's logit: the model's raw output before it becomes a "
    "probability. The layer is where a class activation map is read."
)
_MIME = {"png": "image/png", "npz": "application/octet-stream", "html": "text/html"}


def seen(e: Explanation, looks: Looks) -> list[Seen]:
    """Return an explanation's map and its photo as pictures with words."""
    label = e.target.label
    where = hottest_in_words(e)
    return [
        Seen("Map", drawn(e, looks), f"{e.method} map for “{label}”: {where}"),
        Seen("Photo", photo_picture(e), "The photo without the map"),
    ]


def hottest_in_words(e: Explanation) -> str:
    """Say where a map is hottest, for those who do not see it."""
    boxes = e.boxes()
    if not boxes:
        return "nothing speaks for the class"
    height, width = e.heatmap.shape
    box = boxes[0]
    row = _third((box.ymin + box.ymax) / 2 / height, "top", "middle", "bottom")
    column = _third((box.xmin + box.xmax) / 2 / width, "left", "centre", "right")
    return f"hottest at the {row} {column}"


def _third(share: float, *names: str) -> str:
    return names[min(2, int(share * 3))]


def map_card(e: Explanation, looks: Looks, key: str) -> None:
    """Show one explanation with its legend, notes and downloads."""
    with st.container(border=True):
        st.markdown(f"**{plain(title_of(e))}**")
        st.caption(plain(METHODS[e.method].summary))
        ends = (f"against “{e.target.label}”", f"for “{e.target.label}”") if e.style == "diverging" else None
        legend = legend_of(e.style, looks.colormap, ends) if looks.view in ("overlay", "heatmap") else None
        viewer(seen(e, looks), key=f"viewer-{key}", label=f"{e.method} for {e.target.label}", legend=legend)
        st.caption(said_of(e), help=_SCORE)
        for note in (*_unseen(e), *e.notes):
            st.caption(f":material/info: {note}")
        downloads(e, lambda: png_bytes(drawn(e, looks)), "The picture at the photo's own size", key)


def _unseen(e: Explanation) -> list[str]:
    return ["Hatched: the model never saw this; its preprocessing cut it off."] if np.isnan(e.heatmap).any() else []


def said_of(e: Explanation) -> str:
    """Return score, layer, time and completeness of an explanation as a line."""
    parts = [f"score {e.score:.3g}", f"layer `{e.layer}`" if e.layer else "", f"{e.seconds:.2f} s"]
    if e.completeness is not None:
        parts.append(f"completeness gap {e.completeness.gap:.1%}")
    return " · ".join(p for p in parts if p)


def downloads(e: Explanation, picture: Callable[[], bytes], words: str, key: str) -> None:
    """Offer an explanation as a picture, of which ``words`` say what it is, as numbers and as a page."""
    of = Path(str(e.provenance.get("image") or "picture")).stem
    said = f"{of} {e.method} {e.target.index if e.target.index is not None else 'target'}"
    stem = re.sub(r"[^\w]+", "-", said)[:80].strip("-")
    with st.container(horizontal=True, gap="medium"):
        _download("PNG", picture, f"{stem}.png", key, words)
        _download(
            "NPZ", lambda: file_bytes(e, "npz"), f"{stem}.npz", key, "All numbers, for numpy and Explanation.load"
        )
        _download("HTML", lambda: file_bytes(e, "html"), f"{stem}.html", key, "A page of its own, to send or print")


def _download(name: str, data: Any, file: str, key: str, words: str) -> None:
    look: dict[str, Any] = {"icon": ":material/download:", "type": "tertiary", "on_click": "ignore", "help": words}
    st.download_button(name, data, file, _MIME[file.rpartition(".")[2]], key=f"{name}-{key}", **look)


def file_bytes(e: Explanation, suffix: str) -> bytes:
    """Return an explanation as the bytes of a file of that kind."""
    with tempfile.TemporaryDirectory() as folder:
        return e.save(Path(folder) / f"e.{suffix}").read_bytes()
