"""Deletion and insertion: the curves of a map and of the controls, and the picture at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st
from PIL import Image

from sightline.app.parts.charts import Line, line_chart
from sightline.app.parts.viewer import Seen, viewer
from sightline.app.parts.work import stoppable
from sightline.app.subject import Asked, Chosen, Subject
from sightline.app.trials import Curve, is_tried, tried
from sightline.evaluation.asked import CONTROLS
from sightline.evaluation.registry import METRICS
from sightline.evaluation.report.verdicts import worded
from sightline.evaluation.stepwise import Direction, Stepwise
from sightline.points import BaselineName

__all__ = ["changed_step_by_step"]

_STEPS: int = METRICS["deletion"].parameters["steps"].default
_WAYS: Mapping[Direction, str] = {"deletion": "Take away (deletion)", "insertion": "Show (insertion)"}
_INTRO: Mapping[Direction, str] = {
    "deletion": "The places that the map marks most are **taken away first**. If they are the reasons, the probability "
    "falls early: the curve lies low, and the area under it is small.",
    "insertion": "The picture begins all covered, and the places that the map marks most are **shown first**. If they "
    "are the reasons, the probability rises early: the curve lies high, and the area under it is large.",
}
_FILLS: Mapping[BaselineName, str] = {
    "blur": "a strong blur of the picture",
    "mean": "the picture's mean colour",
    "zero": "the colour that the model takes for 0",
    "black": "black",
    "white": "white",
    "uniform": "coloured noise",
}


def changed_step_by_step(chosen: Chosen, subject: Subject, asked: Asked, control: Asked) -> None:
    """Show how the probability falls or rises, for the map and all controls, and the picture at the chosen step."""
    direction, fill = _how()
    st.markdown(_INTRO[direction])
    listed = dict.fromkeys([asked, control, *(replace(control, method=c) for c in CONTROLS)])
    trials = {one.method: Curve(one, direction, fill) for one in listed}
    if all(is_tried(chosen, subject, t) for t in trials.values()) or stoppable(
        "Measuring", f"curves-{hash(tuple(trials.values()))}", lambda tick: _try_all(chosen, subject, trials, tick)
    ):
        _scrubbed({name: tried(chosen, subject, t) for name, t in trials.items()}, control.method)


def _how() -> tuple[Direction, BaselineName]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        direction: Any = st.segmented_control(
            "What is done",
            list(_WAYS),
            format_func=_WAYS.__getitem__,
            default="deletion",
            required=True,
            key="curve_way",
            bind="query-params",
        )
        fill: Any = st.selectbox(
            "What covers the picture", list(_FILLS), format_func=_FILLS.__getitem__, key="curve_fill",
            bind="query-params", width=280,
            help="Sharp holes confuse a model by themselves, so a blur is the default. Where two covers disagree, "
            "believe neither.",
        )  # fmt: skip
    return direction or "deletion", fill or "blur"


def _try_all(chosen: Chosen, subject: Subject, trials: Mapping[str, Curve], tick: Any) -> None:
    for trial in trials.values():
        tried(chosen, subject, trial, tick)


@st.fragment
def _scrubbed(found: Mapping[str, Stepwise], control: str) -> None:
    """Draw the curves with the step that is chosen, and what the model was given at it."""
    method, direction = next(iter(found)), next(iter(found.values())).direction
    _verdict(found)
    chart = st.container()
    step = st.select_slider(
        "Share taken away" if direction == "deletion" else "Share shown",
        list(range(_STEPS + 1)),
        _STEPS // 4,
        format_func=_share,
        key="curve_step",
        bind="query-params",
    )
    with chart:
        _curves(found, step, control)
    with st.container(horizontal=True, wrap=False):
        for name in dict.fromkeys([method, control]):
            with st.container():
                _pictured(name, found[name], step)
    st.caption(
        "What the model was given at this step, at its own size, and the probability that it gave the class; control: "
        f"{control}."
    )
    _compared(found)


def _share(step: int) -> str:
    return f"{step / _STEPS:.0%}"


def _curves(found: Mapping[str, Stepwise], step: int, control: str) -> None:
    method = next(iter(found))
    lines = [
        Line(
            name,
            curve.shares.tolist(),
            curve.scores.tolist(),
            [f"{name}: {y:.1%} at {x:.0%}" for x, y in zip(curve.shares, curve.scores, strict=True)],
            step if name in (method, control) else None,
        )
        for name, curve in found.items()
    ]
    way = "taken away" if found[method].direction == "deletion" else "shown"
    alt = f"Probability over the share of the picture that is {way}. " + ", ".join(
        f"{name}: area {curve.area:.3f}" for name, curve in found.items()
    )
    line_chart(lines, axes=(f"share of the picture {way}", "probability of the class"), alt=alt, key="curves")


def _pictured(name: str, curve: Stepwise, step: int) -> None:
    way = "taken away" if curve.direction == "deletion" else "shown"
    chance = f"{curve.scores[step]:.1%}"
    st.metric(name, chance)
    image = Image.fromarray(curve.picture(step))
    alt = f"The picture with the {_share(step)} that {name} marks most {way}; probability {chance}"
    viewer([Seen("Picture", image, alt)], key=f"step-{name}", label=name, most=380)


def _ordered(found: Mapping[str, Stepwise]) -> tuple[list[str], bool]:
    """Return the maps from the best area to the worst, and whether low is good."""
    lower = METRICS[next(iter(found.values())).direction].better == "lower"
    return sorted(found, key=lambda name: found[name].area, reverse=not lower), lower


def _compared(found: Mapping[str, Stepwise]) -> None:
    """List the areas, the best first."""
    order, lower = _ordered(found)
    area = f"Area ({'low' if lower else 'high'} is good)"
    st.table([{"Map": n, "What it is": _what(n), area: f"{found[n].area:.3f}"} for n in order])


def _what(name: str) -> str:
    return f"control: {worded(name)}" if name in CONTROLS else "the map in question"


def _verdict(found: Mapping[str, Stepwise]) -> None:
    """Say how the map does beside the controls."""
    (order, lower), method = _ordered(found), next(iter(found))
    area, best = "smaller" if lower else "larger", order[0]
    one = "One picture is no proof; `sightline evaluate` measures a folder of them."
    if method in CONTROLS:
        st.info(f"`{method}` is itself a control: it does not look at the model. {one}", icon=":material/info:")
    elif best in CONTROLS:
        worse = f"**No better than {worded(best)}**, whose area is {area}"
        st.warning(f"{worse}: on this picture the map proves nothing. {one}", icon=":material/warning:")
    else:
        st.info(f"**Better than all four controls**: its area is {area}. {one}", icon=":material/check_circle:")
