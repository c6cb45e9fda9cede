"""How alike the maps of a comparison are, as a coloured table with what it means and what it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from sightline.app.grid import Cell, alike
from sightline.app.parts.exports import matrix_csv
from sightline.app.parts.grids import matrix_html
from sightline.app.subject import Subject
from sightline.explanation import Explanation
from sightline.methods import METHODS

__all__ = ["likeness", "likeness_words"]

Found = Sequence[tuple[Cell, Explanation]]
_CELLS = 12
_GRAINS = {"cells": f"{_CELLS} × {_CELLS} cells", "pixels": "Pixels"}


def likeness(subject: Subject, found: Found) -> None:
    """Show how alike maps are, two by two."""
    st.subheader("Do the maps agree?")
    grain = st.segmented_control(
        "Compared by",
        list(_GRAINS),
        format_func=_GRAINS.__getitem__,
        default="cells",
        required=True,
        key="grain",
        bind="query-params",
        help="Fine and coarse maps may point to one place and still differ in each pixel; averaged over cells, "
        "that no longer counts.",
    )
    values = alike(subject, found, _CELLS if grain == "cells" else None)
    names = _names([cell for cell, _ in found])
    st.markdown(likeness_words([name.replace("\n", ", ") for name in names], values, _controls(found)))
    st.html(matrix_html(names, values, label="Rank correlation of every two maps"))
    st.caption(
        "Each number is Spearman's rank correlation of two maps: 1, both put all places in the same order; 0, no "
        "relation; −1, the opposite order. Maps that agree can all be wrong: agreement is no proof. A control among "
        "the methods (random, edges, centre) shows what knowing nothing of the model gives."
    )
    st.download_button(
        "Agreement as CSV",
        lambda: matrix_csv([name.replace("\n", ", ") for name in names], values),
        "agreement.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
    )


def _names(cells: Sequence[Cell]) -> list[str]:
    """Name each map by what tells it from the others."""
    parts = [(cell.asked.method, cell.wanted, cell.model) for cell in cells]
    telling = [i for i in range(3) if len({part[i] for part in parts}) > 1] or [0]
    return ["\n".join(part[i] for i in telling) for part in parts]


def _controls(found: Found) -> list[bool]:
    return [METHODS[cell.asked.method].family == "control" for cell, _ in found]


def likeness_words(names: Sequence[str], values: np.ndarray, controls: Sequence[bool]) -> str:
    """Say which two maps agree most and least, and how much the controls agree with the others.

    >>> likeness_words(["a", "b", "c"], np.array([[1, 0.5, 0], [0.5, 1, -0.2], [0, -0.2, 1]]), [False] * 3)
    'Most alike: **a** and **b** (0.50). Least alike: **b** and **c** (−0.20).'
    """
    methods = [i for i, control in enumerate(controls) if not control]
    pairs = [(values[i, j], i, j) for i in methods for j in methods if i < j and values[i, j] == values[i, j]]
    said = []
    if pairs:
        said.append(f"Most alike: {_pair(names, max(pairs))}.")
    if len(pairs) > 1:
        said.append(f"Least alike: {_pair(names, min(pairs))}.")
    rest = [values[i, j] for i in methods for j, control in enumerate(controls) if control]
    if rest and not np.isnan(rest).all():
        most = float(np.nanmax(np.abs(rest)))
        said.append(f"Controls, which know nothing of the model, reach {most:.2f} with a method at most.")
    return " ".join(said)


def _pair(names: Sequence[str], pair: tuple[float, int, int]) -> str:
    value, i, j = pair
    number = f"{value:.2f}".replace("-", "−")
    return f"**{names[i]}** and **{names[j]}** ({number})"
