"""Which models, which classes, and what runs across: the axes of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from sightline.app.grid import GUESSES, Cell, all_classes
from sightline.app.parts.model import model_named, model_names
from sightline.app.parts.share import unknown_in_link
from sightline.app.subject import Chosen, Subject

__all__ = ["Axes", "Line", "axes_of", "chosen_across", "chosen_classes", "chosen_models"]

_DEFAULT = ("demo/honest", "demo/cheating")
_ACROSS = {"auto": "Automatic", "method": "Methods", "class": "Classes", "model": "Models"}
_MOST = 6


@dataclass(frozen=True)
class Line:
    """A row or a column: its name, and which values it stands for (method, class, model)."""

    name: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Axes:
    """The rows and columns of a grid and the cell where two of them meet."""

    rows: Sequence[Line]
    columns: Sequence[Line]
    cells: Mapping[frozenset[tuple[str, str]], Cell]

    def at(self, row: Line, column: Line) -> Cell:
        """Return the cell of a row and a column."""
        return self.cells[frozenset((*row.values, *column.values))]


def _begin_with_the_last(names: list[str]) -> None:
    """Begin with the model of the page that the visitor comes from, unless the link says another."""
    last = st.session_state.get("last_model")
    if last in names and "models" not in st.session_state and "models" not in st.session_state["link"]:
        st.session_state["models"] = list(dict.fromkeys([last, *(n for n in _DEFAULT if n in names)]))[:2]


def chosen_models() -> dict[str, Chosen]:
    """Draw the choice of models and return them by name. Raises ModelError where one cannot be loaded."""
    names = model_names()
    unknown_in_link("models", names, "model")
    _begin_with_the_last(names)
    picked = st.multiselect(
        "Models",
        names,
        default=[n for n in _DEFAULT if n in names],
        key="models",
        bind="query-params",
        max_selections=_MOST,
        placeholder="Choose models",
    )
    return {name: model_named(name) for name in picked}


def chosen_classes(subject: Subject, models: Mapping[str, Chosen]) -> list[str]:
    """Draw the choice of classes among those of all models and return it."""
    names = [*GUESSES, *all_classes(subject, models.values())]
    last = st.session_state.get("last_class")
    if last in names and "classes" not in st.session_state and "classes" not in st.session_state["link"]:
        st.session_state["classes"] = [last]
    return st.multiselect(
        "Classes",
        names,
        default=[GUESSES[0]],
        key="classes",
        bind="query-params",
        max_selections=_MOST,
        placeholder="Choose classes",
        help="The 1st guess is each model's own most probable class. Type to search all classes by name.",
    )


def chosen_across() -> str:
    """Draw the choice of what runs across and return it."""
    return st.segmented_control(
        "Across",
        list(_ACROSS),
        format_func=_ACROSS.__getitem__,
        default="auto",
        required=True,
        key="across",
        bind="query-params",
        help="What the columns are; the rows are all combinations of the other two.",
    )


def axes_of(cells: Sequence[Cell], across: str) -> Axes:
    """Lay cells out: one axis across (the methods, where there are several), all else down."""
    values = {
        "model": list(dict.fromkeys(c.model for c in cells)),
        "class": list(dict.fromkeys(c.wanted for c in cells)),
        "method": list(dict.fromkeys(c.asked.method for c in cells)),
    }
    if across == "auto":
        across = next((axis for axis in ("method", "class", "model") if len(values[axis]) > 1), "method")
    first, second = (axis for axis in values if axis != across)
    rows = [
        Line(_named({first: a, second: b}, values), ((first, a), (second, b)))
        for a in values[first]
        for b in values[second]
    ]
    columns = [Line(value, ((across, value),)) for value in values[across]]
    found = {frozenset({("model", c.model), ("class", c.wanted), ("method", c.asked.method)}): c for c in cells}
    return Axes(rows, columns, found)


def _named(row: Mapping[str, str], values: Mapping[str, Sequence[str]]) -> str:
    """Name a row by what tells it from the others, by all of it where it is the only one."""
    telling = [value for axis, value in row.items() if len(values[axis]) > 1]
    return "\n".join(telling or row.values())
