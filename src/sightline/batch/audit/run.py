"""`audit`: from a store to what its model cheats on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sightline.batch.audit.check import checked
from sightline.batch.audit.clusters import Clustering, clustered
from sightline.batch.audit.pictures import Pictures
from sightline.batch.audit.reading import By, Maps, read_maps
from sightline.batch.audit.results import Audit, Audited, Found
from sightline.batch.audit.strategies import Strategy, find_strategies
from sightline.batch.store import Store, open_store
from sightline.errors import InputError
from sightline.images import MAX_PIXELS
from sightline.models.load import load
from sightline.models.model import Model

__all__ = ["FEWEST", "Progress", "audit"]

FEWEST = 20
"""Images of a class, below which nothing is said of it."""


Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def _silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


@dataclass(frozen=True)
class _Run:
    """What all steps of one audit share."""

    maps: Maps
    pictures: Pictures
    model: Model | None
    check: int
    seed: int
    progress: Progress


def audit(
    store: str | os.PathLike[str] | Store,
    model: Model | str | None = None,
    *,
    method: str | None = None,
    by: By = "class",
    check: int = 100,
    seed: int = 0,
    progress: Progress = _silent,
) -> Audit:
    """Cluster the explanations of a store class by class, name what is odd, and ask the model whether it cheats.

    ``model`` is the one whose explanations are audited: unless given, it is loaded by the name that the store has.
    ``method`` is needed where the store holds several. ``by`` says what is clustered together: the images of one
    predicted ``class``, of one asked ``target``, or all (``none``). ``check`` is how many images of a strategy, and as
    many others, are covered for the counterfactual check; 0 leaves it out, and then nothing is called a shortcut.
    ``progress`` is given each phase's name and size, and its context gives a function that counts.

    Raises InputError where the store holds nothing to audit, or explanations of other weights than the model has.
    """
    opened = store if isinstance(store, Store) else open_store(store)
    given = load(model) if isinstance(model, str) else model
    name, weights = (None, None) if given is None else (given.name, given.weights_hash)
    maps = read_maps(opened, model=name, weights_hash=weights, method=method, by=by)
    asked = _model_of(maps, given) if check else None
    pictures = Pictures(maps.images, maps.hashes, MAX_PIXELS if asked is None else asked.max_pixels)
    classes = _classes(_Run(maps, pictures, asked, check, seed, progress))
    return Audit(maps, classes, pictures, _settings(opened, maps, by, check, seed), maps.notes)


def _model_of(maps: Maps, given: Model | None) -> Model:
    found = given if given is not None else load(maps.model)
    how = found.preprocessing.describe()
    if maps.preprocessing is not None and how != maps.preprocessing:
        raise InputError(
            f"{maps.model} takes pictures otherwise now ({how}) than when they were explained ({maps.preprocessing}); "
            "give the options that it was loaded with (--preprocess, --fit)."
        )
    if found.weights_hash != maps.weights_hash:
        raise InputError(
            f"{maps.model} has other weights now ({found.weights_hash}) than the explanations were made with "
            f"({maps.weights_hash}); name the model and its weights (--model, --weights), or audit with --check 0."
        )
    return found


def _classes(run: _Run) -> tuple[Audited, ...]:
    """Look at each class, then check what is odd: a chance finding is the likelier the more clusters there are."""
    groups = list(run.maps.groups())
    odd: list[list[Strategy]] = []
    seen: list[Audited] = []
    with run.progress("clustering", len(run.maps.images)) as step:
        for group in groups:
            found = None if len(group.rows) < FEWEST else clustered(run.maps, group, run.seed)
            seen.append(Audited(group, found))
            odd.append([] if found is None else _odd(run, found))
            step(len(group.rows) + group.zero)
    pairs = list(zip(seen, odd, strict=True))
    if run.model is None:
        return tuple(replace(a, found=tuple(Found(s, None) for s in mine)) for a, mine in pairs)
    tries = sum(len(a.clusters) for a in seen)
    with run.progress("covering", 2 * run.check * sum(map(len, odd))) as step:
        each = partial(_found, run, run.model, tries, step)
        return tuple(replace(a, found=tuple(map(each, mine))) for a, mine in pairs)


def _found(run: _Run, model: Model, tries: int, step: Callable[[int], None], strategy: Strategy) -> Found:
    done = checked(model, run.maps, strategy, run.pictures, most=run.check, tries=tries, seed=run.seed, step=step)
    return Found(strategy, done)


def _odd(run: _Run, found: Clustering) -> list[Strategy]:
    others = _mean_of(run.maps, np.flatnonzero((run.maps.group != found.group.index) & ~run.maps.zero))
    return find_strategies(run.maps, found, others, run.pictures, run.seed)


def _mean_of(maps: Maps, rows: np.ndarray) -> np.ndarray | None:
    """Return the mean map of rows, of mass 1, or None where there are none; in portions, for they may be many."""
    if not len(rows):
        return None
    total = np.zeros(maps.heat.shape[1:])
    for start in range(0, len(rows), 4096):
        total += maps.mass(rows[start : start + 4096]).sum(0)
    return np.asarray(total / total.sum())


def _settings(store: Store, maps: Maps, by: By, check: int, seed: int) -> dict[str, Any]:
    return {
        "store": str(store.place),
        "model": maps.model,
        "weights_hash": maps.weights_hash,
        "method": maps.method,
        "layer": maps.layer,
        "by": by,
        "images": len(maps.images),
        "failed": maps.failed,
        "check": check,
        "seed": seed,
    }
