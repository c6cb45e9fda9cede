"""Signals: why did this model say that of this series?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from sightline.app.parts.classes import chosen_class
from sightline.app.parts.digits import digits_shown
from sightline.app.parts.explaining import explained_here
from sightline.app.parts.looks import COLORMAPS
from sightline.app.parts.methods import asked_methods
from sightline.app.parts.series import chosen_series
from sightline.app.parts.series_card import series_card
from sightline.app.parts.series_chart import Laid, Paint, alt_of, series_figure
from sightline.app.parts.series_model import chosen_series_model
from sightline.app.parts.work import told
from sightline.app.series import Series, explained_class, is_of_digits, placed_digit
from sightline.app.subject import Asked, Chosen, predicted
from sightline.demo.mnist1d import Placed
from sightline.explanation import Explanation
from sightline.signals import read_signal

__all__ = ["page"]

_FIRST = ["integrated_gradients", "grad_cam"]
_ONLY_PICTURES = ["xrai"]
_PAINTS = {"line": "Line", "ground": "Background", "none": "Off"}

Found = list[tuple[Asked, Explanation]]


def page() -> None:
    """Draw the page."""
    with st.sidebar:
        series, chosen = chosen_series(), chosen_series_model()
        with told():
            asked = asked_methods(chosen, _FIRST, _ONLY_PICTURES)
    st.title("Why did the model say that of this series?")
    with told():
        _answered(series, chosen, asked)


def _answered(series: Series, chosen: Chosen, asked: Sequence[Asked]) -> None:
    predictions = predicted(chosen, series)
    left, right = st.columns([1, 3], gap="medium")
    with left:
        target = chosen_class(chosen, predictions, key="series_target")
        digit = explained_class(chosen, series, target) if is_of_digits(chosen.model) else None
        template = _digits(series, digit, predictions[0]["index"]) if digit is not None else None
    with right:
        looks = _chosen_looks([one.method for one in asked])
        place = st.container()
        found = _explained(series, chosen, [replace(one, target=target) for one in asked])
        with place:
            _charted(series, chosen, found, template, looks)
        _said(series, chosen, found, looks)


def _digits(series: Series, digit: int, said: int) -> Placed | None:
    """Show the ten digits, and return the place of the explained one in the series, where it is to be drawn there."""
    if series.placed is not None:
        drawn = series.placed.digit
        right = ":material/check: The model is right" if said == drawn else ":material/close: The model is wrong"
        st.caption(f"{right}: a {drawn} was drawn.")
    digits_shown(digit)
    shown = st.toggle(f"Lay the {digit} over the series", True, key="overlay_template", bind="query-params")
    return placed_digit(series, digit) if shown else None


@dataclass(frozen=True)
class _Looks:
    """What of the chart is coloured, by which method's map, in which colours; None: the method's own."""

    what: str
    by: str | None
    colormap: str | None


def _chosen_looks(methods: Sequence[str]) -> _Looks:
    what_column, by_column, colours_column = st.columns([6, 5, 5], vertical_alignment="bottom")
    what = what_column.segmented_control(
        "Colour as well",
        list(_PAINTS),
        format_func=_PAINTS.__getitem__,
        default="line",
        required=True,
        key="paint",
        bind="query-params",
        help="The maps stand below the series; the colours of one of them can be laid on the series, too.",
    )
    by = by_column.selectbox("By the map of", methods, key="paint_by", bind="query-params") if methods else None
    colormap = colours_column.selectbox("Colours", COLORMAPS, key="series_colours", bind="query-params")
    return _Looks(what or "line", by, None if colormap == COLORMAPS[0] else colormap)


def _explained(series: Series, chosen: Chosen, asked: Sequence[Asked]) -> Found:
    found: Found = []
    for one in asked:
        with told():
            e = explained_here(chosen, series, one, f"signals-{one.method}")
            if e is not None:
                found.append((one, e))
    if not asked:
        st.info("Choose a method on the left.", icon=":material/arrow_back:")
    return found


def _charted(series: Series, chosen: Chosen, found: Found, template: Placed | None, looks: _Looks) -> None:
    maps = [e for _, e in found]
    values = read_signal(series.values, dims=1, channels=chosen.model.preprocessing.channels).values
    by = next((e for e in maps if e.method == looks.by), None)
    unit = "value" if series.placed is None else "value (standardised)"
    figure = series_figure(
        values, maps, Paint(looks.what, by, looks.colormap), Laid(template, series.placed or template), unit
    )
    st.plotly_chart(
        figure, config={"displayModeBar": False}, key="series_chart", alt=alt_of(values, maps, series.placed)
    )
    st.caption(_about(series, template))


def _about(series: Series, template: Placed | None) -> str:
    """Say what the template and the shaded points are."""
    if series.placed is not None:
        drawn = f"Shaded: the points of the {series.placed.digit} that was drawn; around it there is only noise. "
        if template is None or template.digit == series.placed.digit:
            return drawn + (
                "Dotted: its shape without noise, as it was stretched, moved and tilted." if template else ""
            )
        return drawn + f"Dotted: where a {template.digit} would run, stretched, moved and tilted in the same way."
    if template is None:
        return "Where a digit lies in this series is not known."
    return (
        f"Dotted and shaded: the place where the shape of {template.digit} fits best (least squares over all stretches "
        "and places). It is a guess: nothing says that there is one."
    )


def _said(series: Series, chosen: Chosen, found: Found, looks: _Looks) -> None:
    columns = st.columns(2) if len(found) > 1 else [st.container()]
    for i, (one, e) in enumerate(found):
        with columns[i % len(columns)], told():
            series_card(e, chosen, series, one, looks.colormap)
