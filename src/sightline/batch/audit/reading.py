"""What an audit reads of a store: one explanation for each image, of one model and one method, made small."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from sightline.batch.store import Store
from sightline.batch.table import heatmaps_of
from sightline.errors import InputError, ParameterError, suggest

__all__ = ["SIDE", "By", "Group", "Maps", "read_maps"]

By = Literal["class", "target", "none"]

SIDE = 32
"""Maps are kept at this many cells a side."""
_LIGHT = (
    "image",
    "image_hash",
    "model",
    "weights_hash",
    "method",
    "layer",
    "parameters",
    "asked",
    "target",
    "target_label",
    "prediction",
    "prediction_label",
    "error",
)
_SETTINGS = ("layer", "parameters", "asked")


@dataclass(frozen=True, eq=False)
class Maps:
    """One positive map for each image, float16 (N, 32, 32) of maximum 1, with what the model said of it.

    ``labels`` names groups, ``called`` predictions; ``preprocessing`` is what the images went through. ``zero`` says
    which maps speak for nothing: their positive part is zero everywhere.
    """

    heat: np.ndarray
    zero: np.ndarray
    images: Sequence[str]
    hashes: Sequence[str]
    group: np.ndarray
    prediction: np.ndarray
    labels: dict[int, str]
    called: dict[int, str]
    model: str
    weights_hash: str
    method: str
    layer: str | None
    failed: int
    notes: tuple[str, ...] = ()
    preprocessing: str | None = None

    def mass(self, rows: np.ndarray) -> np.ndarray:
        """Return the maps of rows as float32 (N, 32, 32), each of sum 1."""
        heat = self.heat[rows].astype(np.float32)
        return np.asarray(heat / heat.sum((1, 2), keepdims=True))

    def groups(self) -> Iterator[Group]:
        """Yield what is clustered together, the class of the most images first."""
        values, counts = np.unique(self.group, return_counts=True)
        for value in values[np.argsort(-counts, kind="stable")]:
            rows = np.flatnonzero((self.group == value) & ~self.zero)
            yield Group(int(value), self.labels[int(value)], rows, int((self.group == value).sum()) - len(rows))


@dataclass(frozen=True, eq=False)
class Group:
    """A class as it is audited: rows of `Maps` whose maps are not zero, and how many are."""

    index: int
    label: str
    rows: np.ndarray
    zero: int


def read_maps(store: Store, *, model: str | None, weights_hash: str | None, method: str | None, by: By) -> Maps:
    """Read the maps of one model and one method.

    Raises InputError where there are none, or of several where none was chosen, and for maps of series.
    """
    if len(store.settings.heatmap) != 2:
        raise InputError(f"{store.place} holds maps of series; sightline audit takes those of pictures.")
    light = store.read(_LIGHT)
    columns: dict[str, Any] = {name: np.array(light[name].to_pylist(), object) for name in _LIGHT}
    ok = np.array([e is None for e in columns["error"]], bool)
    if not ok.any():
        raise InputError(f"{store.place} holds no explanation ({len(light)} rows failed); nothing can be audited.")
    kept = ok & _of_weights(columns, ok, model, weights_hash)
    failed = int((~ok).sum())
    kept &= _chosen("method", columns["method"], kept, method)
    kept &= _asked(columns, by)
    if not kept.any():
        raise InputError(
            f"{store.place}: no explanation is of the class that the model predicts; audit it with --by target."
        )
    notes: list[str] = []
    kept &= _usual_settings(columns, kept, notes)
    kept = _once(columns, kept)
    heat = _heat(store, kept)
    return _maps(columns, kept, heat, by, failed, tuple(notes))


def _maps(columns: dict[str, Any], kept: np.ndarray, heat: np.ndarray, by: By, failed: int, notes: Any) -> Maps:
    here = {name: values[kept] for name, values in columns.items()}
    group, labels = _groups(here, by)
    return Maps(
        heat,
        heat.reshape(len(heat), -1).max(1) == 0,
        here["image"].tolist(),
        here["image_hash"].tolist(),
        group,
        np.array([-1 if p is None else p for p in here["prediction"]], np.int64),
        labels,
        _groups(here, "class")[1],
        here["model"][0],
        here["weights_hash"][0],
        here["method"][0],
        here["layer"][0],
        failed,
        notes,
        _preprocessing(here["parameters"][0]),
    )


def _preprocessing(parameters: str | None) -> str | None:
    found = json.loads(parameters or "{}").get("preprocessing")
    return None if found is None else str(found)


def _groups(here: dict[str, Any], by: By) -> tuple[np.ndarray, dict[int, str]]:
    if by == "none":
        return np.zeros(len(here["image"]), np.int64), {0: "all classes"}
    index, label = ("target", "target_label") if by == "target" else ("prediction", "prediction_label")
    group = np.array([-1 if g is None else g for g in here[index]], np.int64)
    return group, {int(g): str(n) for g, n in zip(group, here[label], strict=True)}


def _of_weights(columns: dict[str, Any], ok: np.ndarray, name: str | None, weights: str | None) -> np.ndarray:
    """Say which rows are of the model that was named, or of the only one."""
    if weights is not None:
        found = columns["weights_hash"] == weights
        if not (found & ok).any():
            held = sorted(set(columns["weights_hash"][ok]))
            raise InputError(
                f"the store's explanations are of weights {', '.join(held)}; the model {name} that came has {weights}: "
                "give the one that they were made with (--model, --weights)."
            )
        return np.asarray(found)
    held = sorted(set(zip(columns["model"][ok], columns["weights_hash"][ok], strict=True)))
    if len({w for _, w in held}) > 1:
        raise InputError(
            f"the store holds explanations of {len(held)} models ({', '.join(n for n, _ in held)}); choose one with "
            "--model."
        )
    return np.ones(len(ok), bool)


def _chosen(what: str, values: np.ndarray, kept: np.ndarray, wanted: str | None) -> np.ndarray:
    held = sorted(set(values[kept]))
    if wanted is not None and wanted not in held:
        raise ParameterError(f"--{what} {wanted}: the store holds {', '.join(held)}.{suggest(wanted, held)}")
    if wanted is None and len(held) > 1:
        raise ParameterError(
            f"the store holds maps of {len(held)} methods; choose one with --{what}: {', '.join(held)}."
        )
    return np.asarray(values == (wanted or held[0]))


def _usual_settings(columns: dict[str, Any], kept: np.ndarray, notes: list[str]) -> np.ndarray:
    """Keep the settings that most rows were made with, for maps of two layers are not alike."""
    every = list(zip(*(columns[name] for name in _SETTINGS), strict=True))
    counts = Counter(s for s, k in zip(every, kept, strict=True) if k)
    usual, _ = min(counts.items(), key=lambda item: (-item[1], str(item[0])))
    if len(counts) > 1:
        named = ", ".join(f"{name} {value}" for name, value in zip(_SETTINGS, usual, strict=True) if value)
        notes.append(f"of {len(counts)} settings in the store the one of the most rows was audited: {named}")
    return np.array([s == usual for s in every], bool)


def _asked(columns: dict[str, Any], by: By) -> np.ndarray:
    if by == "target":
        return np.array([t is not None for t in columns["target"]], bool)
    pairs = zip(columns["target"], columns["prediction"], strict=True)
    return np.array([t is not None and t == p for t, p in pairs], bool)


def _once(columns: dict[str, Any], kept: np.ndarray) -> np.ndarray:
    """Keep one row of each content and target: copies of an image would be alike at every place."""
    seen: set[Any] = set()
    found = np.zeros(len(kept), bool)
    for row in np.flatnonzero(kept):
        pair = columns["image_hash"][row], columns["target"][row]
        found[row] = pair not in seen
        seen.add(pair)
    return found


def _heat(store: Store, kept: np.ndarray) -> np.ndarray:
    """Read the heatmaps part by part, and keep their positive parts, made small."""
    found, start = [], 0
    for part in _tables(store):
        mine = kept[start : start + len(part)]
        start += len(part)
        if mine.any():
            found.append(small(heatmaps_of(part.filter(pa.array(mine)))))
    return np.concatenate(found)


def _tables(store: Store) -> Iterator[pa.Table]:
    for commit in store.commits:
        for name in commit.explanations:
            yield store.part(name, ["heatmap"])


def small(maps: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Return the positive parts of maps (N, H, W) as float16 (N, side, side) of maximum 1; a zero map stays zero."""
    import torch
    import torch.nn.functional as F

    positive = torch.from_numpy(np.nan_to_num(maps, nan=0.0).clip(min=0).astype(np.float32))
    less = F.adaptive_avg_pool2d(positive[:, None], side)[:, 0].numpy()
    most = less.reshape(len(less), -1).max(1)[:, None, None]
    return np.asarray(np.divide(less, most, out=np.zeros_like(less), where=most > 0), np.float16)
