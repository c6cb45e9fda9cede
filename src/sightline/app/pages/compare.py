"""Compare: methods, classes and models in one grid, how far their maps agree, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from sightline.app.grid import Cell, cells_of, outcome, outcome_known, passes_of
from sightline.app.parts.axes import Axes, axes_of, chosen_across, chosen_classes, chosen_models
from sightline.app.parts.exports import grid_png, numbers_csv
from sightline.app.parts.grids import Shown, grid_html, legends_html, picture_url
from sightline.app.parts.likeness import likeness
from sightline.app.parts.looks import Looks, chosen_looks, drawn
from sightline.app.parts.maps import seen
from sightline.app.parts.methods import asked_methods
from sightline.app.parts.picture import chosen_picture
from sightline.app.parts.viewer import legend_of
from sightline.app.parts.work import stoppable, told
from sightline.app.store import store_of
from sightline.app.subject import Asked, Chosen, Subject
from sightline.covering import percent
from sightline.explanation import Explanation
from sightline.render.palette import Style

__all__ = ["page"]

_METHODS = ("grad_cam", "integrated_gradients", "random")
_SIZES = {"small": 130, "medium": 190, "large": 300}
_SECONDS_BETWEEN = 0.3


def page() -> None:
    """Draw the page."""
    models: dict[str, Chosen] = {}
    methods: list[Asked] = []
    with st.sidebar:
        subject = chosen_picture()
        with told():
            models = chosen_models()
            methods = asked_methods(next(iter(models.values())), _METHODS) if models else []
    st.title("Which method, which class, which model?")
    st.markdown("The same picture, explained in several ways. Models and methods are chosen in the bar at the side.")
    with told():
        if models and methods:
            _compared(subject, models, methods)
        else:
            st.info("Choose at least one model and one method on the left.", icon=":material/arrow_back:")


def _compared(subject: Subject, models: dict[str, Chosen], methods: Sequence[Asked]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = chosen_classes(subject, models)
        across, size = chosen_across(), _chosen_size()
    if not wanted:
        st.info("Choose at least one class.", icon=":material/arrow_upward:")
        return
    looks = chosen_looks()
    cells = cells_of(subject, models, wanted, methods)
    axes = axes_of(cells, across)
    if not _filled(subject, axes, looks, _SIZES[size]):
        return
    found = [(cell, e) for cell in cells if isinstance(e := outcome_known(subject, cell), Explanation)]
    st.html(legends_html(_legends([e for _, e in found], looks)))
    st.caption(_cost(subject, found))
    _downloads(subject, axes, cells, looks)
    if len(found) > 1:
        likeness(subject, found)


def _chosen_size() -> str:
    return st.segmented_control("Size", list(_SIZES), default="medium", required=True, key="size", bind="query-params")


def _filled(subject: Subject, axes: Axes, looks: Looks, width: int) -> bool:
    """Show the grid as far as it is known and fill in what is missing, cell by cell; say whether all of it is there."""
    place = st.empty()

    def show(working: Cell | None = None) -> None:
        place.html(_grid(subject, axes, looks, width, working))

    show()
    missing = [c for row in axes.rows for col in axes.columns if outcome_known(subject, c := axes.at(row, col)) is None]
    if not missing:
        return True
    what = "1 map" if len(missing) == 1 else f"{len(missing)} maps"
    done = stoppable(what, "compare", lambda tick: _fill(subject, missing, show, tick))
    if done:
        show()
    return done


def _fill(subject: Subject, missing: Sequence[Cell], show: Callable[[Cell], None], tick: Callable[[int], None]) -> None:
    at, last = 0.0, None

    def ticked(cell: Cell, passes: int) -> None:
        """Show the grid with what was made before, once a cell, also where this one takes long and that did not."""
        nonlocal at, last
        tick(passes)
        if last is not cell and time.monotonic() - at > _SECONDS_BETWEEN:
            show(cell)
            at, last = time.monotonic(), cell

    for cell in missing:
        ticked(cell, 0)
        outcome(subject, cell, partial(ticked, cell))


def _grid(subject: Subject, axes: Axes, looks: Looks, width: int, working: Cell | None) -> str:
    rows = [
        (row.name, [_shown(subject, axes.at(row, column), looks, working) for column in axes.columns])
        for row in axes.rows
    ]
    corner = Shown(picture_url(subject.image), f"The picture: {subject.name}")
    return grid_html(corner, [column.name for column in axes.columns], rows, label="The maps", width=width)


def _shown(subject: Subject, cell: Cell, looks: Looks, working: Cell | None) -> Shown:
    found = outcome_known(subject, cell)
    if isinstance(found, str):
        return Shown(text=found, kind="why")
    if found is None:
        return Shown(text="working …" if cell is working else "…", kind="wait")
    passes = passes_of(subject, cell)
    cost = f"{found.seconds:.2f} s" + (f", {passes:,} passes" if passes else "")
    return Shown(*_drawn(subject, cell, found, looks), (f"{cell.label} {percent(cell.chance)}", cost))


def _drawn(subject: Subject, cell: Cell, e: Explanation, looks: Looks) -> tuple[str, str]:
    """Return a map as a small picture and in words; remembered."""

    def make() -> tuple[str, str]:
        return picture_url(drawn(e, looks)), f"{seen(e, Looks())[0].alt}, by {cell.model}"

    store = store_of(private=cell.chosen.private or subject.private)
    key = ("drawn", cell.chosen.key, subject.key, cell.asked, looks)
    found: tuple[str, str] = store.get(key, make, lambda pair: len(pair[0]) + 512)
    return found


def _legends(found: Sequence[Explanation], looks: Looks) -> list[Any]:
    """Return a legend for each style with the methods that are drawn in it."""
    if looks.view not in ("overlay", "heatmap"):
        return []
    styles: dict[Style, list[str]] = {}
    for e in found:
        names = styles.setdefault(e.style, [])
        if e.method not in names:
            names.append(e.method)
    return [(", ".join(names), legend_of(style, looks.colormap)) for style, names in styles.items()]


def _cost(subject: Subject, found: Sequence[tuple[Cell, Explanation]]) -> str:
    if not found:
        return "No map could be made."
    total = sum(e.seconds for _, e in found)
    dearest = max((e for _, e in found), key=lambda e: e.seconds)
    maps = "1 map" if len(found) == 1 else f"{len(found)} maps"
    return (
        f"{maps} in {total:.2f} s; the slowest was {dearest.method} with {dearest.seconds:.2f} s. Below each map stand "
        "the class with the probability that the model gives it, and what the map cost."
    )


def _downloads(subject: Subject, axes: Axes, cells: Sequence[Cell], looks: Looks) -> None:
    look: dict[str, Any] = {"on_click": "ignore", "icon": ":material/download:", "type": "tertiary"}
    with st.container(horizontal=True, gap="medium"):
        st.download_button("Grid as PNG", lambda: grid_png(subject, axes, looks), "comparison.png", "image/png", **look)
        st.download_button("Numbers as CSV", lambda: numbers_csv(subject, cells), "comparison.csv", "text/csv", **look)
