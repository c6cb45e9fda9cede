"""`audit`: from a store to what its model cheats on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.batch.audit.check import checked
from sightline.batch.audit.clusters import clustered
from sightline.batch.audit.originals import read_original
from sightline.batch.audit.pictures import Pictures
from sightline.batch.audit.reading import By, Group, Maps, read_maps
from sightline.batch.audit.results import Audit, Audited, Found
from sightline.batch.audit.strategies import Strategy, find_strategies
from sightline.batch.store import Store, open_store
from sightline.models.load import load
from sightline.models.model import Model

__all__ = ["FEWEST", "audit"]

FEWEST = 20
"""Images of a class, below which nothing is said of it."""


def audit(
    store: str | os.PathLike[str] | Store,
    model: Model | str | None = None,
    *,
    method: str | None = None,
    by: By = "class",
    check: int = 100,
    seed: int = 0,
    read: Callable[[str], Any] = read_original,
    on_step: Callable[[str, int], None] | None = None,
) -> Audit:
    """Cluster the explanations of a store class by class, name what is odd, and ask the model whether it cheats.

    ``model`` is the one whose explanations are audited: unless given, it is loaded by the name that the store has.
    ``method`` is needed where the store holds several. ``by`` says what is clustered together: the images of one
    predicted ``class``, of one asked ``target``, or all (``none``). ``check`` is how many images of a strategy, and as
    many others, are covered for the counterfactual check; 0 leaves it out, and then nothing is called a shortcut.
    ``read`` turns the store's ``image`` into a path, PIL image or array. ``on_step`` is told what is done, and a count.

    Raises InputError where the store holds nothing to audit, or explanations of other weights than the model has.
    """
    opened = store if isinstance(store, Store) else open_store(store)
    step = on_step or _untold
    given = load(model) if isinstance(model, str) else model
    maps = read_maps(
        opened,
        model=given.name if given else None,
        weights_hash=given.weights_hash if given else None,
        method=method,
        by=by,
    )
    asked = _model_of(maps, given) if check else None
    pictures = Pictures(maps.images, read, *(() if asked is None else (asked.max_pixels,)))
    groups = [_looked_at(maps, group, pictures, seed, step) for group in maps.groups()]
    tries = sum(len(a.clustering.clusters) for a, _ in groups if a.clustering)
    classes = [_checked(a, odd, asked, maps, pictures, check, tries, seed, step) for a, odd in groups]
    settings = _settings(opened, maps, by, check if asked else 0, seed)
    return Audit(maps, tuple(classes), pictures, settings, maps.notes)


def _untold(_: str, __: int) -> None: ...


def _model_of(maps: Maps, given: Model | None) -> Model:
    from sightline.errors import InputError

    if given is not None:
        return given
    found = load(maps.model)
    if found.weights_hash != maps.weights_hash:
        raise InputError(
            f"{maps.model} has other weights now ({found.weights_hash}) than the explanations were made with "
            f"({maps.weights_hash}); name the model and its weights (--model, --weights), or audit with --check 0."
        )
    return found


def _looked_at(
    maps: Maps, group: Group, pictures: Pictures, seed: int, step: Callable[[str, int], None]
) -> tuple[Audited, list[Strategy]]:
    step(f"clustering {group.label}", 1)
    if len(group.rows) < FEWEST:
        return Audited(group, None), []
    found = clustered(maps, group, seed)
    others = _mean_of(maps, np.flatnonzero((maps.group != group.index) & ~maps.zero))
    odd = find_strategies(maps, found, others, pictures, lambda n: step(f"looking at {group.label}", 0), seed)
    return Audited(group, found), odd


def _mean_of(maps: Maps, rows: np.ndarray) -> np.ndarray | None:
    """Return the mean map of rows, of mass 1, or None where there are none; in portions, for they may be many."""
    if not len(rows):
        return None
    total = np.zeros(maps.heat.shape[1:])
    for start in range(0, len(rows), 4096):
        heat = maps.heat[rows[start : start + 4096]].astype(np.float32)
        total += (heat / heat.sum((1, 2), keepdims=True)).sum(0)
    return np.asarray(total / total.sum())


def _checked(
    a: Audited,
    odd: list[Strategy],
    model: Model | None,
    maps: Maps,
    pictures: Pictures,
    most: int,
    tries: int,
    seed: int,
    step: Callable[[str, int], None],
) -> Audited:
    found = []
    for s in odd:
        told = lambda n, s=s: step(f"covering {s.label}", 0)  # noqa: E731
        done = None
        if model is not None:
            done = checked(model, maps, s, pictures, most=most, tries=tries, seed=seed, step=told)
        found.append(Found(s, done))
    return Audited(a.group, a.clustering, tuple(found))


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
