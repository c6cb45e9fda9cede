"""Methods by classes by models: what each cell of a comparison asks, and what came out; remembered cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.agreement import agreement
from sightline.app.store import Store, store_of
from sightline.app.subject import Asked, Chosen, Subject, explained, known
from sightline.errors import RefusedError, SightlineError
from sightline.explanation import Explanation
from sightline.predictions import class_probabilities

__all__ = [
    "GUESSES",
    "Cell",
    "alike",
    "all_classes",
    "cells_of",
    "class_texts",
    "index_of",
    "outcome",
    "outcome_known",
    "passes_of",
]

GUESSES = ("1st guess", "2nd guess", "3rd guess")


@dataclass(frozen=True, eq=False)
class Cell:
    """One map that is asked for: of which model, for which class, by which method, or why there can be none.

    ``wanted`` is the class as it was chosen; ``label`` and ``chance`` are the model's own name and probability of it.
    """

    model: str
    chosen: Chosen
    wanted: str
    asked: Asked
    label: str = ""
    chance: float = float("nan")
    why: str | None = None


def class_texts(chosen: Chosen, classes: int) -> dict[str, int]:
    """Return the names of a model's classes with their indices; names that several have get their index behind them."""
    labels = [chosen.model.labels.name(i) for i in range(classes)]
    twice = {label for label in set(labels) if labels.count(label) > 1} if len(set(labels)) < len(labels) else set()
    return {f"{label} ({i})" if label in twice else label: i for i, label in enumerate(labels)}


def all_classes(subject: Subject, models: Iterable[Chosen]) -> list[str]:
    """Return the names of the classes of all models, each once however it is written."""
    found: dict[str, str] = {}
    for chosen in models:
        for text in class_texts(chosen, len(chances(chosen, subject))):
            found.setdefault(_folded(text), text)
    return list(found.values())


def _folded(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


def chances(chosen: Chosen, subject: Subject) -> np.ndarray:
    """Return the probabilities of all classes for the picture (K,); remembered."""
    key = ("chances", chosen.key, subject.key)
    found: np.ndarray = _store(chosen, subject).get(
        key, lambda: class_probabilities(chosen.model, [subject.image])[0], lambda row: row.nbytes + 512
    )
    return found


def cells_of(
    subject: Subject, models: Mapping[str, Chosen], wanted: Sequence[str], methods: Sequence[Asked]
) -> list[Cell]:
    """Return the cells of every model, class and method, in this order."""
    return [
        _cell(name, chosen, text, asked, chances(chosen, subject))
        for name, chosen in models.items()
        for text in wanted
        for asked in methods
    ]


def _cell(name: str, chosen: Chosen, wanted: str, asked: Asked, row: np.ndarray) -> Cell:
    index = index_of(chosen, wanted, row)
    if index is None:
        return Cell(name, chosen, wanted, asked, why=f"{name} has no class “{wanted}”.")
    return Cell(
        name,
        chosen,
        wanted,
        replace(asked, target=str(index)),
        chosen.model.labels.name(index),
        float(row[index]),
    )


def index_of(chosen: Chosen, wanted: str, row: np.ndarray) -> int | None:
    """Return which class of a model is meant, by rank or by name, None where it has no such class."""
    if wanted in GUESSES:
        place = GUESSES.index(wanted)
        return int(np.argsort(-row, kind="stable")[place]) if place < len(row) else None
    texts = class_texts(chosen, len(row))
    if wanted in texts:
        return texts[wanted]
    found = chosen.model.labels.indices(wanted)
    return found[0] if len(found) == 1 else None


def outcome(subject: Subject, cell: Cell, tick: Callable[[int], None]) -> Explanation | str:
    """Return a cell's explanation, or the reason why there is none; both are remembered."""
    found = outcome_known(subject, cell)
    if found is not None:
        return found
    store, count = _store(cell.chosen, subject), 0

    def counted(passes: int) -> None:
        nonlocal count
        count += passes
        tick(passes)

    try:
        made = explained(cell.chosen, subject, cell.asked, counted)
    except SightlineError as error:
        said = f"Refused: {error}" if isinstance(error, RefusedError) else str(error)
        return _kept(store, _key("why", subject, cell), said)
    if count:
        _kept(store, _key("passes", subject, cell), str(count))
    return made


def outcome_known(subject: Subject, cell: Cell) -> Explanation | str | None:
    """Return what is remembered of a cell, None where it still is to be made."""
    if cell.why is not None:
        return cell.why
    if known(cell.chosen, subject, cell.asked):
        return explained(cell.chosen, subject, cell.asked)
    key, store = _key("why", subject, cell), _store(cell.chosen, subject)
    return _kept(store, key, "") if key in store else None


def passes_of(subject: Subject, cell: Cell) -> int | None:
    """Return how many passes the sweep of a cell took, None where it made none or they were not counted."""
    key, store = _key("passes", subject, cell), _store(cell.chosen, subject)
    return int(_kept(store, key, "0")) if key in store else None


def _store(chosen: Chosen, subject: Subject) -> Store:
    return store_of(private=chosen.private or subject.private)


def _key(what: str, subject: Subject, cell: Cell) -> tuple[str, str, str, Asked]:
    return what, cell.chosen.key, subject.key, cell.asked


def _kept(store: Store, key: tuple[str, str, str, Asked], text: str) -> str:
    found: str = store.get(key, lambda: text, lambda kept: len(kept) + 512)
    return found


def alike(subject: Subject, found: Sequence[tuple[Cell, Explanation]], cells: int | None) -> np.ndarray:
    """Return the rank correlations of the maps of some cells (N, N); remembered."""
    store = store_of(private=subject.private or any(cell.chosen.private for cell, _ in found))
    key = ("alike", cells, *(_key("map", subject, cell) for cell, _ in found))
    made: np.ndarray = store.get(
        key, lambda: agreement([e for _, e in found], cells=cells), lambda matrix: matrix.nbytes + 4096
    )
    return made
