"""A report of a model's errors: its numbers, what is taken for what, and every error to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from sightline.app.parts.gallery import gallery
from sightline.app.parts.reporting import read_once, whole_page
from sightline.app.parts.words import as_text, sentences
from sightline.app.reports import Report, Search
from sightline.evaluation.mistakes.reading import FILE, SavedErrors, SavedWorst, read_errors

__all__ = ["errors_view", "worst_pictures"]

_MOST_CLASSES, _NUMBERED, _MOST_PAIRS, _MOST_ROWS, _WIDEST = 60, 20, 8, 200, 860
_SCALES = {
    "light": [[0, "#eef3f6"], [1, "#0b4f6c"]],
    "dark": [[0, "#1f252c"], [1, "#6cc3de"]],
}


def saved_errors(report: Report) -> SavedErrors:
    """Return what the report holds; InputError where it cannot be read."""
    found: SavedErrors = read_once(
        "errors", report.folder, (FILE, "predictions.parquet"), lambda: read_errors(report.folder)
    )
    return found


def errors_view(search: Search, report: Report) -> None:
    """Draw a report of errors."""
    found = saved_errors(report)
    _about(found)
    _headline(found)
    sentences(found.findings)
    whole_page(report.folder / "report.html", "errors", "the full report")
    st.subheader("What is taken for what")
    left, right = st.columns([3, 2], gap="large")
    with left:
        _matrix(found)
    with right:
        _pairs(found)
    if found.worst:
        st.subheader("The worst, explained")
        worst_pictures(found.worst)
    st.subheader("Every error")
    gallery(search, report, found)
    _details(found)


def _about(found: SavedErrors) -> None:
    said = found.settings
    parts = [f"model **{as_text(said['model'])}**"] if "model" in said else []
    parts += [f"folder **{as_text(said['folder'])}**"] if "folder" in said else []
    parts += [f"explained by `{said['method']}`"] if str(said.get("method", "")).isidentifier() else []
    st.caption(" · ".join(parts))


def _headline(found: SavedErrors) -> None:
    a = found.accuracy
    with st.container(horizontal=True, gap="medium"):
        st.metric(
            "Right",
            f"{a['share']:.1%}",
            help=f"{a['right']:.0f} of {a['total']:.0f}. With other pictures like these, 95 times in 100 between "
            f"{a['low']:.1%} and {a['high']:.1%}.",
        )
        st.metric("Errors", f"{a['total'] - a['right']:.0f}", help=f"Of {a['total']:.0f} pictures.")
        st.metric("Always the commonest class", f"{found.majority:.1%}", help="Right so often without looking.")
        st.metric(
            "Sure on average",
            f"{found.calibration['mean_confidence']:.1%}",
            help="The mean probability of what it says. Far above how often it is right: it is too sure of itself.",
        )


def _matrix(found: SavedErrors) -> None:
    if max(len(found.rows), len(found.columns)) > _MOST_CLASSES:
        st.caption(f"{len(found.rows)} classes are too many for a picture of all; the commonest confusions are beside.")
        return
    shares = [[n / max(1, sum(row)) for n in row] for row in found.matrix]
    numbered = len(found.columns) <= _NUMBERED
    heat = go.Heatmap(
        z=shares,
        x=_distinct(found.columns),
        y=_distinct(found.rows),
        customdata=found.matrix,
        text=[[str(n) if n else "" for n in row] for row in found.matrix] if numbered else None,
        texttemplate="%{text}" if numbered else None,
        textfont={"size": 15},
        hovertemplate="is %{y}, it says %{x}: %{customdata} times (%{z:.0%})<extra></extra>",
        colorscale=_SCALES["dark" if st.context.theme.type == "dark" else "light"],
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=False,
    )
    size = max(260, min(720, 90 + 42 * len(found.rows)))
    drawn = go.Figure(heat)
    drawn.update_layout(height=size, margin={"l": 0, "r": 0, "t": 30, "b": 0}, dragmode=False)
    drawn.update_xaxes(title="it says", side="top", type="category", fixedrange=True)
    drawn.update_yaxes(title="it is", autorange="reversed", type="category", fixedrange=True)
    drawn.update_layout(font={"size": 14})
    st.plotly_chart(drawn, config={"displayModeBar": False}, key="matrix", alt=_matrix_words(found))
    st.caption("A row for each true class, a column for each answer; darker or brighter is a larger share of the row.")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names as a chart takes them: as text, without its tags, each another even where two were alike."""
    plain = [name.replace("<", "‹").replace(">", "›")[:40] for name in names]
    return [name if plain.index(name) == n else f"{name} ({n})" for n, name in enumerate(plain)]


def _matrix_words(found: SavedErrors) -> str:
    worst = ", ".join(f"{true} for {said} {n} times" for true, said, n in found.confusions[:3])
    return f"Counts of answers by true class, {len(found.rows)} classes. " + (f"Most often: {worst}." if worst else "")


def _pairs(found: SavedErrors) -> None:
    if not found.confusions:
        st.success("It made no mistake here.", icon=":material/check:")
        return
    st.markdown("**Most confused** · click to see them below")
    of = {c["label"]: c["support"] for c in found.classes}
    for n, (true, said, count) in enumerate(found.confusions[:_MOST_PAIRS]):
        st.button(
            f"{as_text(true)} → {as_text(said)} · {count} of {of.get(true, '?')}",
            key=f"pair-{n}",
            on_click=_only,
            args=(true, said),
            width="stretch",
        )


def _only(true: str, said: str) -> None:
    st.session_state.update({"error_true": true, "error_said": said, "error_text": "", "error_page": 1})


def worst_pictures(worst: Sequence[SavedWorst]) -> None:
    """Draw the pictures of the worst confusions: the photo, why the wrong class, and what speaks for the right one."""
    shown = [w for w in worst if w.picture is not None]
    if not shown:
        st.caption("No explanation was kept: the method refused the model, or --worst 0 was asked.")
        return
    st.caption(
        "Each row: the picture, the map for the class that the model said, and the map for the true class. "
        "Bright places spoke for that class."
    )
    for tab, w in zip(st.tabs([f"{as_text(w.true)} → {as_text(w.predicted)}" for w in shown]), shown, strict=True):
        with tab:
            worst_picture(w)


def worst_picture(w: SavedWorst) -> None:
    """Draw the picture of one confusion."""
    try:
        data: Any = w.picture.read_bytes() if w.picture else b""
        st.image(data, alt=f"{w.true} taken for {w.predicted}: photos with the maps for both classes", width=_WIDEST)
    except OSError:
        st.caption("Its picture cannot be read.")


def _details(found: SavedErrors) -> None:
    with st.expander("Class by class", icon=":material/table:"):
        listed = sorted(found.classes, key=lambda c: c["f1"] if c["f1"] is not None else 2)
        st.dataframe(
            [{_HEADS[k]: c[k] for k in _HEADS} for c in listed[:_MOST_ROWS]], hide_index=True, alt="Numbers by class"
        )
        st.caption(
            "Precision: of what it calls so, the share that is. Recall: of what is so, the share that it finds. F1: "
            "one number for both. AUC: how well its probability tells this class from the rest (0.5 is chance)."
        )
    notes = [*found.notes, *(str(s.get("reason", "")) for s in found.skipped[:20])]
    for note in notes:
        st.caption(f":material/info: {as_text(note)}")


_HEADS = {
    "label": "class",
    "support": "pictures",
    "predicted": "said",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
}
