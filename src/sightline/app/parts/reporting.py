"""Choose one of the reports below the folder, and show or download the page that came with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from sightline.app.parts.viewer import asset
from sightline.app.parts.words import as_text
from sightline.app.reports import Kind, Report, Search, search
from sightline.app.settings import settings
from sightline.app.store import store_of

__all__ = ["chosen_report", "found_reports", "read_once", "when", "whole_page"]

_SECONDS = 10.0
_MOST_SHOWN = 24 << 20
_MOST_LOADED = 200 << 20
_WORDS = {"errors": "errors", "evaluation": "trust in methods", "training": "training"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SAFE = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'.encode()
_FRAME = st.components.v2.component(
    "sightline_frame",
    html='<iframe sandbox="" referrerpolicy="no-referrer"></iframe>',
    css="iframe { width: 100%; height: 80vh; border: 1px solid var(--st-border-color); border-radius: 8px }",
    js=asset("frame.js"),
)


def found_reports() -> Search:
    """Return what lies below the folder now; it is searched again after some seconds."""
    root, turn = Path(settings().reports), int(time.monotonic() / _SECONDS)
    found: Search = store_of(private=False).get(("reports", str(root), turn), lambda: search(root), lambda _: 1 << 18)
    return found


def read_once(kind: str, folder: Path, names: tuple[str, ...], read: Callable[[], Any], size: int = 1 << 22) -> Any:
    """Return what ``read`` makes of a folder; it is read again when one of the files has changed."""
    return store_of(private=False).get((kind, str(folder), _stamps(folder, names)), read, lambda _: size)


def _stamps(folder: Path, names: tuple[str, ...]) -> tuple[int, ...]:
    found = []
    for name in names:
        try:
            about = (folder / name).stat()
            found += [about.st_mtime_ns, about.st_size]
        except OSError:
            found += [-1]
    return tuple(found)


def chosen_report(found: Search, label: str, key: str, *kinds: Kind) -> Report | None:
    """Draw the choice of a report and return it; its name stands in the URL, and only names that were found count."""
    known = found.of(*kinds)
    asked = st.query_params.get(key)
    if asked is not None and asked not in known:
        st.warning(f"There is no report “{as_text(asked)}” below this folder.", icon=":material/search_off:")
    if st.session_state.get(key) not in known:
        st.session_state.pop(key, None)
        if asked in known:
            st.session_state[key] = asked
    for remark in found.remarks:
        st.caption(f":material/info: {as_text(remark)}")
    if not known:
        st.query_params.pop(key, None)
        return None
    name = st.selectbox(label, list(known), format_func=lambda n: _line(known[n], len(kinds) > 1), key=key)
    st.query_params[key] = name
    return known[name]


def _line(report: Report, mixed: bool) -> str:
    kind = f" · {_WORDS[report.kind]}" if mixed else ""
    return f"{report.name}{kind} · {when(report.changed)}"


def when(seconds: float) -> str:
    """Return a moment as a day and a time of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%d %b %Y, %H:%M")


def whole_page(file: Path, key: str, what: str) -> None:
    """Offer a report's own page: to be downloaded, or shown in a frame that runs and loads nothing."""
    if not file.is_file() or file.is_symlink() or file.stat().st_size > _MOST_LOADED:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"Download {what}",
            lambda: file.read_bytes(),
            f"{file.parent.name or 'sightline'}-report.html",
            "text/html",
            key=f"{key}-page",
            on_click="ignore",
            icon=":material/download:",
            help="One HTML file with all of it, to keep, send or print.",
        )
        shown = file.stat().st_size <= _MOST_SHOWN and st.toggle("Show it here", key=f"{key}-shown")
    if shown:
        html = (_SAFE + file.read_bytes()).decode("utf-8", "replace")
        _FRAME(key=f"{key}-frame", data={"html": html, "title": what})
