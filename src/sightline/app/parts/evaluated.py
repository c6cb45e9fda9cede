"""A report of methods: which of them beat every control, by what, the curves, the trust cards, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from sightline.app.parts.reporting import read_once, whole_page
from sightline.app.parts.words import as_text, sentences
from sightline.app.reports import Report
from sightline.evaluation.card import MARKS
from sightline.evaluation.reading import SUMMARY, SavedEvaluation, read_evaluation
from sightline.evaluation.registry import Metric
from sightline.evaluation.report.lines import mean_curves
from sightline.evaluation.report.page import number_text
from sightline.evaluation.report.verdicts import Verdict, headline, verdicts, worded
from sightline.evaluation.results import Evaluation

__all__ = ["evaluation_view"]

# Okabe and Ito's colours in a tone that is read on light and on dark; controls are grey and dotted.
_COLOURS = ("#0e86c4", "#d55e00", "#009e73", "#b86a9a", "#b58900", "#56b4e9", "#7a6fd0", "#8a8f00")
_GREY = "#8a9199"
_DASHES = ("dot", "dash", "dashdot", "longdash", "longdashdot")
_ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}


def evaluation_view(report: Report) -> None:
    """Draw an evaluation."""
    saved, judged = _read(report)
    found = saved.found
    st.caption(f"model **{as_text(found.settings.get('model', '?'))}** · {_measured(found)}")
    if not saved.finished:
        st.info(
            "It has not come to its end: these are the pictures so far. The same command goes on from there.",
            icon=":material/hourglass_top:",
        )
    st.markdown(f"#### {as_text(headline(judged))}")
    sentences(found.findings)
    whole_page(report.folder / "report.html", "evaluation", "the full report")
    st.subheader("Methods beside controls that know nothing")
    _table(found, judged)
    _curves(found)
    _cards(saved)
    _cost(found)


def _read(report: Report) -> tuple[SavedEvaluation, list[Verdict]]:
    def read() -> tuple[SavedEvaluation, list[Verdict]]:
        saved = read_evaluation(report.folder)
        return saved, verdicts(saved.found)

    found: tuple[SavedEvaluation, list[Verdict]] = read_once(
        "evaluation", report.folder, ("run.json", SUMMARY, "results.parquet", "parts"), read
    )
    return found


def _measured(found: Evaluation) -> str:
    return f"{found.cost['measured']} of {found.cost['asked']} pictures measured"


def _table(found: Evaluation, judged: list[Verdict]) -> None:
    by_method = {v.method: v for v in judged}
    rows = [_row(found, name, by_method.get(name)) for name in [v.method for v in judged] + found.controls]
    st.table(rows, hide_index=True)
    st.caption(
        "Mean over the pictures ± its standard error. ↑ more is better, ↓ less is. ✓ better than every control, more "
        "than chance explains (paired test, p < 0.05). A method that does not beat noise or an edge detector says "
        "nothing about the model."
    )
    with st.expander("What the metrics measure", icon=":material/help:"):
        for m in found.metrics:
            st.markdown(f"**{m.name.replace('_', ' ')}**: {as_text(m.summary.replace('``', ''))}")


def _row(found: Evaluation, name: str, verdict: Verdict | None) -> dict[str, str]:
    said = f"*control:* {worded(name)}" if verdict is None else f"**`{name}`**"
    cells = {_head(m): _cell(found, m, name) for m in found.metrics}
    return {"method": said, **cells, "verdict": as_text(verdict.sentence) if verdict else ""}


def _head(metric: Metric) -> str:
    return f"{metric.name.replace('_', ' ')} {_ARROWS[metric.better]}".strip()


def _cell(found: Evaluation, metric: Metric, name: str) -> str:
    summary = found.summary(metric.name).get(name)
    if summary is None or not summary.count:
        return "–"
    error = "" if math.isnan(summary.error) else f" ± {number_text(summary.error, 2)}"
    return f"{number_text(summary.mean, 2)}{error}{' ✓' if found.beats_controls(metric.name, name) else ''}"


# --- curves -------------------------------------------------------------------------------------------------


def _curves(found: Evaluation) -> None:
    curves = mean_curves(found)
    if not curves:
        return
    st.subheader("Curves")
    names = list(curves)
    name = st.segmented_control("Metric", names, default=names[0], required=True, key="report_curve") or names[0]
    drawn = _chart(found, curves[name])
    st.plotly_chart(drawn, config={"displayModeBar": False}, key="report-curves", alt=_curve_words(name, curves[name]))
    st.caption(
        "The score of the class while more and more of the picture is changed, the places that the map calls most "
        "important first; mean over the pictures. Grey: the controls."
    )


def _chart(found: Evaluation, curves: Mapping[str, np.ndarray]) -> go.Figure:
    drawn = go.Figure()
    colours = dict(zip([m for m in found.methods if m not in found.controls], _COLOURS * 9, strict=False))
    dashes = dict(zip(found.controls, _DASHES * 9, strict=False))
    for method, points in curves.items():
        control = method in dashes
        drawn.add_scatter(
            x=points[:, 0],
            y=points[:, 1],
            name=worded(method) if control else method,
            line={
                "color": colours.get(method, _GREY),
                "dash": dashes.get(method, "solid"),
                "width": 1.5 if control else 3,
            },
            hovertemplate="%{x:.0%} changed: %{y:.3f}",
        )
    drawn.update_xaxes(title="share of the picture changed", tickformat=".0%", fixedrange=True)
    drawn.update_yaxes(title="mean score", fixedrange=True)
    drawn.update_layout(height=420, margin={"l": 0, "r": 0, "t": 10, "b": 0}, dragmode=False)
    return drawn.update_layout(legend={"orientation": "h", "y": -0.22}, hovermode="x unified")


def _curve_words(name: str, curves: Mapping[str, np.ndarray]) -> str:
    said = "; ".join(f"{m} from {c[0, 1]:.2f} to {c[-1, 1]:.2f}" for m, c in curves.items())
    return f"{name} curves by method: {said}"


# --- trust and cost -----------------------------------------------------------------------------------------


def _cards(saved: SavedEvaluation) -> None:
    if not saved.cards:
        return
    st.subheader("Trust cards")
    st.caption("Five questions to one map each. “Not checked” says why it could not be.")
    for c in saved.cards:
        with st.expander(f"`{c.method}` · {as_text(c.image)} · {as_text(c.card.headline.partition('? ')[2])}"):
            for a in c.card.answers:
                st.markdown(f"{MARKS[a.verdict]} **{as_text(a.question)}** {as_text(a.words)}")


def _cost(found: Evaluation) -> None:
    with st.expander("What it cost, and what was left out", icon=":material/timer:"):
        cost = found.cost
        said = [_measured(found)]
        said += [f"{_number(cost['seconds']):.0f} s"] if "seconds" in cost else []
        said += [f"{_number(cost['forward_passes']):,.0f} forward passes"] if "forward_passes" in cost else []
        st.markdown(", ".join(said) + ". Seconds for a picture, by method:")
        each = dict(cost.get("seconds_by_method") or {})
        images = max(1, int(_number(cost["measured"])))
        st.markdown(" · ".join(f"{as_text(m)} {_number(s) / images:.3f} s" for m, s in each.items()) or "not kept")
        for s in found.skipped[:30]:
            what = " · ".join(as_text(s[k]) for k in ("image", "method", "metric") if s.get(k))
            st.caption(f"left out: {what or 'some'}: {as_text(s['reason'])}")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
