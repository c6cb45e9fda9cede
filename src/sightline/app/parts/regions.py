"""Choose a region of a picture: the one that the map calls hottest, or a box of the visitor's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from sightline.app.parts.viewer import Box, Seen, viewer
from sightline.covering import Region, RegionFill, hottest_box
from sightline.explanation import Explanation

__all__ = ["How", "chosen_how", "chosen_region"]

FILL_NAMES: dict[RegionFill, str] = {
    "mean": "the picture's mean colour",
    "blur": "a blur",
    "inpaint": "what is around it",
    "black": "black",
    "grey": "grey",
    "noise": "grey noise",
}
_REGIONS = {"hottest": "The map's hottest", "own": "My own box"}
_MODES = {"cover": "Cover it", "reveal": "Show nothing else"}
_SIDES = {"left": "From the left", "top": "From the top", "wide": "Width", "high": "Height"}
_MIDDLE = (0.35, 0.35, 0.65, 0.65)
_VIEWER = "asked-picture"


@dataclass(frozen=True)
class How:
    """What is done with the region: covered with a fill, or shown alone on it."""

    fill: RegionFill
    reveal: bool


def chosen_how() -> How:
    """Draw the choice of what is done and return it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = st.segmented_control(
            "What to do with it",
            list(_MODES),
            format_func=_MODES.__getitem__,
            default="cover",
            required=True,
            key="mode",
            bind="query-params",
            help="Covered, it is missed if the model needs it. Shown alone, it is enough if nothing else counts.",
        )
        fill = st.selectbox(
            "Filled with",
            list(FILL_NAMES),
            format_func=FILL_NAMES.__getitem__,
            key="fill",
            bind="query-params",
            width=240,
            help="What takes the place of what is hidden. None is neutral: black or noise may itself look like "
            "something, so try two.",
        )
    return How(fill, mode == "reveal")


def chosen_region(e: Explanation, pictures: list[Seen]) -> Region | None:
    """Draw the picture and the choice of a region; return it in the picture's pixels, None where the map has none."""
    size = pictures[0].image.size
    above = st.container()
    own = st.radio(
        "Region",
        list(_REGIONS),
        format_func=_REGIONS.__getitem__,
        key="region",
        bind="query-params",
        horizontal=True,
        on_change=_chosen,
        help="Drag a box in the picture, or take the place that the map says matters most.",
    )
    found, place = None, st.container()  # always there, so that what is below stays what it is
    if own != "own":
        found = _hottest(place, e)
        _take(_shares(found, size) if found else _MIDDLE)
    numbers = _numbers(size)
    found = numbers if own == "own" else found
    with above:
        shown = _shares(found, size) if found else None
        viewer(pictures, key=_VIEWER, label="The picture, where a box can be drawn", box=shown, on_box=_drawn)
    return found


def _hottest(place: Any, e: Explanation) -> Region | None:
    area: int = place.slider(
        "Its size, as a share of the picture",
        2,
        50,
        10,
        1,
        format="%d %%",
        key="area",
        bind="query-params",
        help="The box of this size that holds most of what the map says speaks for the class.",
    )
    return hottest_box(e, area / 100)


def _numbers(size: tuple[int, int]) -> Region:
    """Draw the box as numbers, for those who cannot drag one; what is changed is one's own."""
    with st.expander("The box in numbers", icon=":material/crop_free:"):
        halves = st.columns(2)
        values = [_number(halves[i % 2], key, name) for i, (key, name) in enumerate(_SIDES.items())]
    left, top, wide, high = (value / 100 for value in values)
    return _pixels((left, top, left + wide, top + high), size)


def _number(place: Any, key: str, name: str) -> float:
    least = 0.0 if key in ("left", "top") else 1.0
    look: dict[str, Any] = {"step": 1.0, "format": "%.1f", "key": key, "bind": "query-params"}
    found: float = place.number_input(f"{name} (%)", least, 100.0, on_change=_own, **look)
    return found


def _pixels(shares: Box, size: tuple[int, int]) -> Region:
    """Return a box in pixels, at least one wide and high and within the picture."""
    width, height = size
    left, top = min(round(shares[0] * width), width - 1), min(round(shares[1] * height), height - 1)
    right, bottom = min(round(shares[2] * width), width), min(round(shares[3] * height), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _shares(box: Region, size: tuple[int, int]) -> Box:
    width, height = size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _drawn() -> None:
    """Take the box that was drawn in the picture."""
    _take(st.session_state[_VIEWER]["box"])
    _own()


def _own() -> None:
    """Take the box as it stands for one's own; each number is set, for what is only shown is not in the URL."""
    st.session_state["region"] = "own"
    for key in _SIDES:
        st.session_state[key] = st.session_state[key]


def _chosen() -> None:
    if st.session_state["region"] == "own":
        _own()


def _take(shares: Box) -> None:
    """Put a box into the numbers; those that stay as they are are left alone, for setting one rewrites the URL."""
    left, top, right, bottom = shares
    for key, value in zip(_SIDES, (left, top, right - left, bottom - top), strict=True):
        shown = max(round(100 * value, 1), 0.0 if key in ("left", "top") else 1.0)
        if st.session_state.get(key) != shown:
            st.session_state[key] = shown
