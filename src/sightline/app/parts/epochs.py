"""Epochs of several runs in one chart: a colour a run, training dashed, validation solid."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
import streamlit as st

from sightline.training.reading import TrainingRun

__all__ = ["epochs_chart"]

_COLOURS = ("#0e86c4", "#d55e00", "#009e73", "#b86a9a", "#b58900", "#7a6fd0")
_QUANTITIES = {"accuracy": "accuracy", "loss": "loss (cross-entropy)"}


def epochs_chart(runs: Mapping[str, TrainingRun]) -> None:
    """Draw accuracy and loss of the runs by epoch."""
    for column, (name, title) in zip(st.columns(2), _QUANTITIES.items(), strict=True):
        with column:
            st.markdown(f"**{title[0].upper()}{title[1:]} by epoch**")
            st.plotly_chart(
                _figure(runs, name), config={"displayModeBar": False}, key=f"epochs-{name}", alt=_words(runs, name)
            )
    st.caption(
        "Solid: on what was held back (validation). Dashed: on what it learned from. The ring is the kept epoch."
    )


def _figure(runs: Mapping[str, TrainingRun], name: str) -> go.Figure:
    drawn = go.Figure()
    for colour, (run_name, run) in zip(_COLOURS, runs.items(), strict=False):
        said = run_name.replace("<", "‹").replace(">", "›")
        for part, dash in (("val_", "solid"), ("", "dash")):
            values = [getattr(row, f"{part}{name}") for row in run.rows]
            label = f"{said}, {'validation' if part else 'training'}"
            few = len(run.rows) == 1
            drawn.add_scatter(
                x=[row.epoch for row in run.rows],
                y=values,
                name=label,
                mode="markers" if few else "lines",
                line={"color": colour, "dash": dash, "width": 3 if part else 2},
                marker={"color": colour, "symbol": "circle" if part else "x", "size": 9},
                hovertemplate="%{y:.3f}",
            )
        _ring(drawn, run, name, colour)
    drawn.update_xaxes(
        title="epoch", dtick=1 if max(len(r.rows) for r in runs.values()) <= 12 else None, fixedrange=True
    )
    drawn.update_yaxes(tickformat=".0%" if name == "accuracy" else None, fixedrange=True)
    drawn.update_layout(height=360, margin={"l": 0, "r": 0, "t": 10, "b": 0}, dragmode=False, hovermode="x unified")
    return drawn.update_layout(legend={"orientation": "h", "y": -0.22})


def _ring(drawn: go.Figure, run: TrainingRun, name: str, colour: str) -> None:
    if (best := run.best) is None:
        return
    drawn.add_scatter(
        x=[best.epoch],
        y=[getattr(best, f"val_{name}")],
        mode="markers",
        marker={"color": colour, "symbol": "circle-open", "size": 15, "line": {"width": 2}},
        showlegend=False,
        hoverinfo="skip",
    )


def _words(runs: Mapping[str, TrainingRun], name: str) -> str:
    said = "; ".join(
        f"{n}: validation from {getattr(r.rows[0], f'val_{name}'):.2f} to {getattr(r.rows[-1], f'val_{name}'):.2f}"
        for n, r in runs.items()
    )
    return f"{name} by epoch of {len(runs)} runs. {said}"
